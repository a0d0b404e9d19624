"""A masked network becomes a smaller dense one that computes the same."""
