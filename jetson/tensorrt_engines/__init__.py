"""TensorRT through its Python module, 8.2 to 11.4 and TensorRT-RTX alike: read a graph, build, load, run, inspect."""
