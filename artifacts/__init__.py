"""What is kept: compiled programs as files."""
