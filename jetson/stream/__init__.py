"""The framed stream between a device and its edge server: frames, and the handshake that fixes what they speak of."""
