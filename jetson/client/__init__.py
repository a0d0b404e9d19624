"""What a device runs day by day: heads, one warm connection to the edge, and the local network where that fails."""
