"""Training: data in batches, and a loop that goes on where it was killed."""
