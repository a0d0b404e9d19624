"""Which variants names and patterns mean."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from pruning_variants import write_two_steps

from exporter.project.settings import Project, load_project
from exporter.variants.choice import ChosenVariant, chosen_variants, naming
from exporter.variants.layer_graphs import variants
from jetson.errors import CoopexportError, ParityError


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, fresh_project: Path) -> Project:
    """A project with the variants of two steps. Do not write into it."""
    folder = Path(shutil.copytree(fresh_project, tmp_path_factory.mktemp("choice") / "project"))
    loaded = load_project(folder / "coopexport.toml")
    write_two_steps(loaded)
    return loaded


def names(project: Project, *given: str) -> list[str]:
    return [choice.name for choice in chosen_variants(project, given)]


def test_nothing_named_means_all_and_patterns_those_that_fit(project: Project) -> None:
    assert names(project) == variants(project)
    assert names(project, "conv4_1-*") == ["conv4_1-6", "conv4_1-3", "conv4_1-1"]
    assert names(project, "*-[13]", "step1") == [
        "step1-control-1", "conv4_1-3", "conv4_1-1", "conv4_3-3", "conv4_3-1", "step1",
    ]  # fmt: skip
    assert names(project, "step1", "step?", "original") == ["step1", "original"]


def test_each_knows_its_cuts_and_whether_it_was_named(project: Project) -> None:
    found = {choice.name: choice for choice in chosen_variants(project, ["conv4_1-*", "conv4_1-3", "step1"])}
    assert found["conv4_1-3"] == ChosenVariant("conv4_1-3", ("conv4_1",), named=True)
    assert found["conv4_1-6"] == ChosenVariant("conv4_1-6", ("conv4_1",), named=False)
    assert found["step1"] == ChosenVariant("step1", None, named=True)


def test_what_does_not_exist_is_refused(project: Project) -> None:
    with pytest.raises(CoopexportError, match=r'no variant\'s name fits "conv9\*"; `coopexport variants` lists all 10'):
        chosen_variants(project, ["conv9*"])
    with pytest.raises(CoopexportError, match='there is no variant "conv9-1"'):
        chosen_variants(project, ["conv4_1-*", "conv9-1"])


def test_errors_name_the_variant_once() -> None:
    class OwnError(ParityError):
        pass

    with pytest.raises(OwnError, match=r"^variant conv4_1-3: it broke$"), naming("conv4_1-3"):
        raise OwnError("it broke")
    with pytest.raises(CoopexportError, match=r"^conv4_1-3 broke$"), naming("conv4_1-3"):
        raise CoopexportError("conv4_1-3 broke")
