"""Latencies of other machines: orders to devices, and the runs that come back."""
