"""A Jetson made of files and executables: what the agent sees of a board, for the tests that have none."""
