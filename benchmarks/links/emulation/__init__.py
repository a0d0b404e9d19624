"""A link in a box: a slow link between two processes of one machine, for experiments."""
