"""Backends: what turns a target's file into an engine, and runs it. A small registry, one module each."""

from engines.backends.interface import Availability, Backend, Engine, Runner
from engines.backends.registry import all_backends, find_backend

__all__ = ["Availability", "Backend", "Engine", "Runner", "all_backends", "find_backend"]
