"""Where a network is cut: what names, the project and a variant's own cuts come to."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from residual_project import write_residual_project

from calibration.splitting.choose_cuts import check_where, choose_cuts, choose_layers
from exporter.project.settings import Project
from exporter.variants.choice import ChosenVariant
from exporter.variants.layer_graphs import LayerGraph, layer_graph
from jetson.errors import CoopexportError

# As the network has them; a block's sum is no clean cut's name of its own, and after the input there is no work before.
IN_ORDER = ("stem", "block1.conv1", "block1.conv2", "block1", "block2.conv1", "block2.conv2", "block2", "fc")
CLEAN = ["stem", "block1.Add", "block1.Relu_1", "block2.Add", "block2.Relu_1", "/Flatten"]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return write_residual_project(tmp_path_factory.mktemp("residual"))


@pytest.fixture(scope="module")
def graph(project: Project) -> LayerGraph:
    return layer_graph(project, "original")


@given(names=st.lists(st.sampled_from(IN_ORDER), min_size=1))
def test_layers_come_once_each_in_the_networks_order(project: Project, graph: LayerGraph, names: list[str]) -> None:
    found = choose_layers(project, graph, names, False, "post-activation")
    called = [next(name for name in IN_ORDER if name in (layer.name, *layer.aliases)) for layer in found]
    assert called == [name for name in IN_ORDER if name in names]


def test_all_means_every_clean_cut_and_before_the_activation_those_that_have_one(
    project: Project, graph: LayerGraph
) -> None:
    everywhere = choose_layers(project, graph, (), True, "post-activation")
    assert [layer.name for layer in everywhere] == CLEAN
    assert [layer.name for layer in choose_layers(project, graph, (), True, "pre-activation")] == ["stem"]


def test_candidates_of_the_project_take_the_place_of_all(tmp_path: Path) -> None:
    project = write_residual_project(tmp_path, 'candidates = ["block2", "block1.conv1"]\n')
    (selection,) = choose_cuts(project, (), ("stem",), True, "post-activation").selections
    assert [layer.name for layer in selection.layers] == ["stem", "block1.conv1", "block2.Relu_1"]
    assert selection.graph.variant == "original"


def test_a_variant_for_some_cuts_is_cut_there_only_unless_it_is_named(project: Project, graph: LayerGraph) -> None:
    def chosen(names: tuple[str, ...], *, named: bool) -> list[str]:
        choice = ChosenVariant("original", ("block1",), named)
        return [layer.name for layer in choose_layers(project, graph, names, not names, "post-activation", choice)]

    assert chosen((), named=False) == chosen((), named=True) == ["block1.Relu_1"]
    assert chosen(("stem", "block1"), named=False) == ["block1.Relu_1"]
    assert chosen(("stem",), named=False) == []
    assert chosen(("stem", "block1"), named=True) == ["stem", "block1.Relu_1"]


def test_what_is_nowhere_is_refused(project: Project, graph: LayerGraph) -> None:
    with pytest.raises(CoopexportError, match='there is no layer "block3"'):
        choose_layers(project, graph, ("block3",), False, "post-activation")
    with pytest.raises(CoopexportError, match="none of 1 variants can be cut there"):
        choose_cuts(project, (), (), False, "post-activation")
    with pytest.raises(CoopexportError, match="--layer and --all were both given"):
        check_where(("stem",), True)
    with pytest.raises(CoopexportError, match="say where to cut"):
        check_where((), False)
