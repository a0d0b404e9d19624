"""Bundles of a variant: calibrated, cut, encoded, measured, written."""
