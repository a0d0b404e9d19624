"""Which engines can be built ahead of time, for which GPUs: `python -m benchmarks.engine_matrix`."""
