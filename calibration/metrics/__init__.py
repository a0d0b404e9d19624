"""The metric of exported graphs, and how sure it is."""
