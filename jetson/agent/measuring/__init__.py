"""What a device measures for an order: stages, timed against each other in sittings."""
