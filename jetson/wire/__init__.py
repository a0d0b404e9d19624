"""What goes over the link: features to bytes and back, the same code on both sides."""
