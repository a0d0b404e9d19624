"""Variants that pruning makes: trained, exported, measured, registered."""
