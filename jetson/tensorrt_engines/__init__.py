"""TensorRT 8.2 to 11.4 and TensorRT-RTX through one layer: read a graph, build, load, run, inspect."""
