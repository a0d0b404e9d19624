"""Studies that the documentation shows; they stay in the repository and are not installed."""
