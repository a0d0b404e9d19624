"""A shrunk network from its files: the user's factory, the plan, the weights."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from exporter.project.checkpoint import build_network, load_weights, read_state_dict
from exporter.shrinking.plan import PLAN_FILE, read_shrink_plan
from jetson.errors import DamagedFileError, StaleError
from jetson.files.atomic_files import sha256_of_file

if TYPE_CHECKING:
    from torch import nn


def rebuild(folder: Path, project_folder: Path) -> nn.Module:
    """Return the shrunk network from the files in `folder` alone (and the user's factory), in eval mode.

    Raises CoopexportError when a file is missing or its hash is not the recorded one.
    """
    from exporter.shrinking.slice_modules import apply_shrink_plan

    file = read_shrink_plan(folder)
    weights = folder / file.weights
    if not weights.is_file():
        raise StaleError(f"{weights} is missing", path=weights, fix="write it anew with: coopexport shrink")
    if sha256_of_file(str(weights)) != file.weights_sha256:
        raise DamagedFileError(
            f"{weights} is not the file that {PLAN_FILE} was written with", path=weights, fix="run: coopexport shrink"
        )
    network = apply_shrink_plan(build_network(file.factory, file.arguments, project_folder), file)
    load_weights(network, read_state_dict(weights), str(weights))
    return network.eval()
