"""Splitting a project: what is returned is what is on disk, in which order it is told, and what stops it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from residual_project import write_residual_project
from tests_support import files_below

from calibration.splitting.split_project import SplitRequest, split_project
from exporter.bundles.bundle import read_split, read_whole
from exporter.project.overrides import SettingError
from exporter.project.settings import Project, SplitSection, load_project
from jetson.errors import CoopexportError

# What the exported network calls the outputs of block1 and block2.
BLOCKS = ("block1.Relu_1", "block2.Relu_1")


@pytest.fixture(scope="module")
def two_variants(split_project: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project with the variants original and pruned, to write into."""
    folder = shutil.copytree(split_project, tmp_path_factory.mktemp("two") / "project")
    return load_project(Path(folder) / "coopexport.toml")


def test_manifests_and_paths_are_those_on_disk(tmp_path: Path) -> None:
    project = write_residual_project(tmp_path)
    events: list[object] = []
    steps: list[tuple[str, int, int]] = []
    result = split_project(
        project,
        SplitRequest(layers=("block2", "block1"), bits=5, codec="zlib-huffman"),
        lambda *step: steps.append(step),
        events.append,
        events.append,
    )
    (found,) = result.variants
    assert events == [0, found]  # how many are left out is known before anything is split
    folder = project.variant_folder("original")
    assert found.whole == read_whole(folder)
    assert [bundle.layer for bundle in found.bundles] == list(BLOCKS)
    assert found.bundles == tuple(read_split(folder, layer) for layer in BLOCKS)
    assert found.paths == (folder / "whole.json", *(folder / f"{layer}.split.json" for layer in BLOCKS))
    assert {(item.tensors[0].encoding.bits, item.codec) for item in found.bundles} == {(5, "zlib-huffman")}
    assert (result.refused, found.left_out) == ((), ())
    assert [step[1:] for step in steps if step[0] == "splitting original (1 of 1)"] == [(1, 3), (2, 3), (3, 3)]


def test_a_candidate_that_cannot_be_cut_is_left_out_with_its_reason(tmp_path: Path) -> None:
    project = write_residual_project(tmp_path, 'candidates = ["block1", "block1.conv1"]\n')
    (found,) = split_project(project, SplitRequest(all_layers=True)).variants
    assert [bundle.layer for bundle in found.bundles] == [BLOCKS[0]]
    (reason,) = found.left_out
    assert "block1.conv1" in reason and "2 tensors cross there" in reason
    with pytest.raises(CoopexportError, match="2 tensors cross there"):
        split_project(project, SplitRequest(layers=("block1", "block1.conv1")))


def test_too_great_a_loss_stops_the_only_variant_and_not_one_of_several(two_variants: Project) -> None:
    def request(*variants: str) -> SplitRequest:
        return SplitRequest(variants, ("conv4_1",), bits=1, clip="minmax", maximum_loss_points=1.0)

    before = read_split(two_variants.variant_folder("original"), "conv4_1")
    with pytest.raises(CoopexportError, match="layer conv4_1 of original: encoding the feature costs"):
        split_project(two_variants, request("original"))
    result = split_project(two_variants, request())
    assert [found.variant for found in result.variants] == ["original", "pruned"]
    assert result.refused == tuple(reason for found in result.variants for reason in found.refused)
    assert len(result.variants[0].refused) == 1
    assert "of original" in result.variants[0].refused[0]
    assert result.variants[0].bundles == ()
    assert result.variants[0].paths == (two_variants.variant_folder("original") / "whole.json",)
    assert read_split(two_variants.variant_folder("original"), "conv4_1") == before  # it stays as it was


def test_every_setting_of_a_request_is_a_key_of_the_section() -> None:
    settings = {name for name, value in vars(SplitRequest()).items() if value is None}
    assert settings and settings <= set(SplitSection.model_fields)


def test_contradictions_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    project = write_residual_project(tmp_path)
    with pytest.raises(CoopexportError, match="say where to cut"):
        split_project(project, SplitRequest())
    with pytest.raises(CoopexportError, match="--layer and --all were both given"):
        split_project(project, SplitRequest(layers=("block1",), all_layers=True))
    with pytest.raises(CoopexportError, match="--codec and --recommended were both given"):
        split_project(project, SplitRequest(layers=("block1",), recommended=True, codec="raw"))
    with pytest.raises(SettingError, match=r"^bits: Input should be less than or equal to 8"):
        split_project(project, SplitRequest(layers=("block1",), bits=9))
    with pytest.raises(CoopexportError, match='there is no variant "narrow"'):
        split_project(project, SplitRequest(("narrow",), ("block1",)))
    assert not any(name.endswith(("split.json", "whole.json")) for name in files_below(tmp_path))
