"""Head and tail: cut at some tensors, proven exact, encoded, written."""
