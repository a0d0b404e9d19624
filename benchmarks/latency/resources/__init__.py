"""What parts need beside time, on this machine: memory of engines, energy of runs."""
