"""Choosing what to prune: scores of channels, removal through the lossless shrinker, the two steps of the paper."""
