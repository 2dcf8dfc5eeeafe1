"""How it is scored: cells, the matrix, statistics, evaluations and reports."""
