"""From a bundle to an engine with its identity, and from an engine to a running pair."""
