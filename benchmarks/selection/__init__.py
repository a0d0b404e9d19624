"""Candidates, the selector, and the plan that it writes."""
