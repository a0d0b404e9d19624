"""Links: presets with sources, traces, the bytes of a protocol, and measuring a link over ssh."""
