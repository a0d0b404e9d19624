"""PyTorch and ONNX graphs: what a network is, and what can be done to it without a device.

Loads the user's network and data declarations, shrinks pruned networks into dense ones, exports them
once, lists where they can be cut, cuts them, and puts the feature encoding at the cut. Every arrow ends in a
parity check. Imports the ground floor only.
"""
