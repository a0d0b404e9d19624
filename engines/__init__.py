"""Engines: from a split bundle to files that load where they are sent.

Knows the targets, writes the self-contained file that each one takes, builds it with the target's backend, and
gives every engine an identity that is checked before it is loaded. Works without torch. Imports `exporter` (for
bundles) and `jetson`.
"""
