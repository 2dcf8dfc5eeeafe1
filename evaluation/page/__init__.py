"""The report as a page: what it shows, and the one file that shows it."""
