"""What this machine is, and what is usable on it."""
