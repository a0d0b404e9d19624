"""The variants of a project's network: which there are, where each comes from, and whether it is fresh."""
