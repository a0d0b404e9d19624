"""Files that appear whole or not at all, locks between processes, JSON with a schema, and the system's own files."""
