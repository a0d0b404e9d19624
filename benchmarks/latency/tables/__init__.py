"""The latency table's parts: its schema, its rows, how runs get in, which are current, and its files of other forms."""
