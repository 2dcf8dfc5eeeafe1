"""What happens later: calls of a program in an app, their quality, and when it changes."""
