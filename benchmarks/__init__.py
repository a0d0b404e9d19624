"""Benchmarks and what follows from them: latencies, the latency table, the selection, the report, the demo.

Measures heads, codecs and tails, keeps every sample with its provenance, and chooses variant, cut and coding for each
link under an accuracy bound. The top room: imports all others.
"""
