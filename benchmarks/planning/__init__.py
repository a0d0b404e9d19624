"""The latency model, and which candidate is best at every goodput: exact, over NumPy columns."""
