"""One candidate for each way to run a network, with times that sums can be done with by hand.

Device times are those of a device five times slower than this machine.
"""

from __future__ import annotations

from benchmarks.selection.selector import INPUT, OUTPUT, Candidate

DEVICE = Candidate("original", OUTPUT, "nothing", 0.0, 10.0, 0.0, 0.9, 0.0, wire_bytes=0.0)
EDGE = Candidate("original", INPUT, "jpeg q50", 816.0, 0.5, 2.0, 0.9, 0.5, wire_bytes=1000.0)
SPLIT = Candidate("pool1-bottleneck-1", "bottleneck", "2-bit", 16.0, 1.0, 2.0, 0.9, 0.5, wire_bytes=200.0)
FEATURE = Candidate("original", "pool1", "8-bit", 416.0, 1.0, 2.0, 0.9, 0.0, wire_bytes=600.0)
