"""Reference networks with named layers, loaded like any user's network: by factory and checkpoint."""
