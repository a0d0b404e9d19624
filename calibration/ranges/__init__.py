"""Clip ranges of the features at the cuts, from calibration data."""
