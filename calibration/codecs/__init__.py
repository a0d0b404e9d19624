"""Entropy tables, and the search for the encoding with the fewest bytes."""
