"""A project with a small residual network, seeded and not trained, whose labels are what the network says itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import small_residual
import torch

from exporter.project.settings import Project, load_project

PROJECT = """schema = "coopexport.project/1.0"
[model]
factory = "small_residual:network"
checkpoint = "network.pt"
input_shape = [3, 16, 16]
[preprocessing]
scale = 0.0078125
mean = [1.0, 1.0, 1.0]
[data]
calibration = "data.npz"
evaluation = "data.npz"
[split]
maximum_loss_points = 100
"""


def write_residual_project(folder: Path, settings: str = "") -> Project:
    """Write project file, weights and 48 images into `folder`; `settings`: more lines of `[split]`."""
    torch.save(small_residual.network().state_dict(), folder / "network.pt")
    np.savez(folder / "data.npz", images=small_residual.IMAGES, labels=small_residual.LABELS)
    (folder / "coopexport.toml").write_text(PROJECT + settings)
    return load_project(folder / "coopexport.toml")
