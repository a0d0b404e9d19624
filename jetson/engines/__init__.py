"""What an engine is: its file's header, its identity, and every check before one is loaded."""
