"""Which channels were pruned, from whatever tool, and the network under its masks."""
