"""The published experiments, rebuilt with our network and our numbers."""
