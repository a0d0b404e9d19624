"""A PyTorch network as a graph of operations: what each computes, and which weights it reads."""
