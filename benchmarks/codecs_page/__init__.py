"""Codecs side by side on real features: a trained network, its quantised features, the coders, and the page."""
