"""The project file, the user's own code, and the checkpoints that it names."""
