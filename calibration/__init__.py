"""Calibration: numbers that only real data can give.

Clip ranges of the features at the cuts, and the metric of what was exported: of the whole graph, of every head and tail
with the encoding between them, and of the input as it arrives. Imports the rooms below.
"""
