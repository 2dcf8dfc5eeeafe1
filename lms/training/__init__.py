"""Weights as one more choice: examples to train on, and who trains on them."""
