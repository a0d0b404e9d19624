"""Which channels of a network go together: how they flow through every operator."""
