"""Latencies: measured on this host, kept sample by sample, and the table of them."""
