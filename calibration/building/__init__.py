"""Engines of a project: its graphs converted to a precision, and built here or on a device."""
