"""A network trained, given bottlenecks, split and measured in a project of its own, with what was done before kept."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from benchmarks.demo.data import make_data
from benchmarks.demo.prepare import Recipe, demo_project_text, prepare_project
from benchmarks.studies.page_command import say
from calibration.splitting.split_project import SplitRequest, VariantSplit, split_project
from calibration.variants.bottleneck_project import Bottlenecked, BottleneckRequest, TriedBottleneck, bottleneck_project
from calibration.variants.variant_maker import LeftOut
from exporter.project.settings import PROJECT_FILE, Project, load_project
from exporter.training.fit import Epoch
from exporter.variants.layer_graphs import trained_records
from exporter.variants.record import VariantRecord
from jetson.errors import InputError
from jetson.files.atomic_files import write_file

CHECKPOINT = "network.safetensors"


def trained_project(folder: Path, recipe: Recipe, mirrored: bool = False) -> Project:
    """Return the project of `recipe` in `folder`, its network trained unless that was done before.

    `mirrored`: see `make_data`. Raises CoopexportError when `folder` holds another recipe's project; OSError.
    """
    file = folder / PROJECT_FILE
    if file.is_file() and file.read_text() != demo_project_text(recipe):
        raise InputError(
            f"{folder} holds the project of another recipe: delete it, or name another folder", path=folder
        )
    if not (folder / CHECKPOINT).is_file():
        data = make_data(recipe.train_count, recipe.evaluation_count, recipe.seed, recipe.image_pixels, mirrored)
        prepare_project(folder, recipe, data, _say_epoch)
    return load_project(file)


def copied_project(folder: Path, source: Project) -> Project:
    """Return a project in `folder` with the data and the network of `source`, and nothing made from them."""
    if not (folder / CHECKPOINT).is_file():
        shutil.copytree(source.folder / "data", folder / "data", dirs_exist_ok=True)
        write_file(str(folder / PROJECT_FILE), (source.folder / PROJECT_FILE).read_bytes())
        write_file(str(folder / CHECKPOINT), (source.folder / CHECKPOINT).read_bytes())
    return load_project(folder / PROJECT_FILE)


def with_bottlenecks(
    project: Project, layers: Sequence[str], tail: Literal["fine-tuned", "frozen"] = "fine-tuned"
) -> tuple[VariantRecord, ...]:
    """Return the variants with bottlenecks behind `layers`, searched unless that was done before."""
    bottleneck_project(project, BottleneckRequest(tuple(layers), tail=tail), on_result=_say_bottleneck)
    return tuple(record for record in trained_records(project) if record.step == "bottleneck")


def split_everywhere(project: Project, variants: Sequence[str] = ()) -> None:
    """Split the project's variants at its candidates, and code their images; what is there stays."""
    split_project(project, SplitRequest(variants=tuple(variants), all_layers=True), on_result=_say_split)


def _say_epoch(epoch: Epoch) -> None:
    say(f"training: epoch {epoch.number:g} of {epoch.of:g}, loss {epoch.loss:.4f}")


def _say_bottleneck(found: Bottlenecked) -> None:
    if isinstance(found, TriedBottleneck):
        say(
            f"{found.layer}, training {found.number}: {found.channels} channels, stride {found.stride}, {found.bits} "
            f"bits, rate weight {found.rate_weight:g}: {found.estimated_bytes:.1f} bytes, {found.loss_points:.2f} "
            f"points lost{'' if found.holds else ', too much'}"
        )
    elif isinstance(found, LeftOut):
        say(f"left out {found.name}: {found.reason}")
    else:
        say(f"{found.variant}: {100 * found.metric.value:.2f} %")


def _say_split(found: VariantSplit) -> None:
    say(f"split {found.variant}")
