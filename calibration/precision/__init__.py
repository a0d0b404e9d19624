"""Lower precision, in the graph: float16 and int8 forms of heads, tails and whole networks, and what they cost.

Precision is written into the ONNX graph (casts, or quantise and dequantise nodes), the one form that every builder
takes; it is judged here, image by image against float32, before any engine is built.
"""
