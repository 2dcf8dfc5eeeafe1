"""What is remembered: cells and answers, in SQLite by default."""
