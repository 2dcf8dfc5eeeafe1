"""What is searched: tasks, metrics, formats and candidates."""
