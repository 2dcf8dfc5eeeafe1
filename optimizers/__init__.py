"""How it is searched: the ladder, its races, and what proposes candidates."""
