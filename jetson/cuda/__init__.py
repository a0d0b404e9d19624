"""Device memory on an NVIDIA GPU, through whichever library is there."""
