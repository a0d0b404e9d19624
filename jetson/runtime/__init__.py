"""What runs the network on a device: preprocessing, the partition policy, and the sampling of latencies."""
