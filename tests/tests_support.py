"""What several tests need and no fixture is for."""

from __future__ import annotations

from pathlib import Path


def files_below(folder: Path) -> set[str]:
    """Return all files below `folder`, relative to it."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
