"""Proposers: what makes new candidates, one kind a file."""
