"""Two-step pruning: scores of channels, their removal through the shrinker, and the series of variants."""
