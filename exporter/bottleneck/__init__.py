"""A small trained encoder at a cut: fewer channels and pixels cross, and the network learns to do with them."""
