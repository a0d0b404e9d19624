"""docs/codecs.md: codecs beside others, on real features."""
