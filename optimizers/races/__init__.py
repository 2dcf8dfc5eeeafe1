"""Races: strategies that decide which cells to buy next, one a file."""
