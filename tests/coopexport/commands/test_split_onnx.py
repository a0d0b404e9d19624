"""Any ONNX file, cut from the command line: weights inside or outside, by layer, node or tensor."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from click.testing import CliRunner, Result
from family_graphs import exported

from coopexport.commands.split import split as split_command
from exporter.cutting.pair_files import read_pairs
from jetson.errors import CoopexportError


@pytest.fixture(params=["inside", "outside"])
def network_file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "network.onnx"
    model = onnx.ModelProto()
    model.CopyFrom(exported("googlenet_small"))
    if request.param == "outside":
        onnx.save(model, str(path), save_as_external_data=True, location="network.data", size_threshold=0)
    else:
        onnx.save(model, str(path))
    return path


def split(path: Path, *arguments: str) -> Result:
    return CliRunner().invoke(
        split_command, ["--onnx", str(path), "--output", str(path.parent / "out"), *arguments], catch_exceptions=False
    )


def test_cuts_are_named_by_layer_node_or_tensor(network_file: Path) -> None:
    node = next(node for node in exported("googlenet_small").graph.node if node.op_type == "GlobalAveragePool")
    result = split(
        network_file, "--layer", "inception3a.Concat", "--layer", node.name, "--layer", "/MaxPool_1_output_0",
        "--layer", "inception3b.branch1.conv + /inception3a/Concat_output_0",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert result.output.count("same bits") == 4
    pairs = read_pairs(network_file.parent / "out")
    assert [len(pair.tensors) for pair in pairs.pairs] == [1, 1, 1, 2]
    assert pairs.pairs[1].source_tensors == (node.output[0],)
    assert pairs.pairs[2].source_tensors == ("/MaxPool_1_output_0",)
    assert pairs.source_sha256 is not None
    weights = {path.name for path in (network_file.parent / "out" / "weights").iterdir()}
    large = {item.raw_data for item in exported("googlenet_small").graph.initializer if len(item.raw_data) >= 1024}
    assert len(weights) == len(large)


def test_an_unclean_cut_is_refused_with_what_crosses_and_nothing_is_written(network_file: Path) -> None:
    with pytest.raises(CoopexportError, match=r"4 tensors cross there|3 tensors cross there|2 tensors cross there"):
        split(network_file, "--layer", "inception3a.branch3.0.conv")
    assert not (network_file.parent / "out").exists()


def test_where_to_cut_must_be_said_once(network_file: Path) -> None:
    with pytest.raises(CoopexportError, match="say where to cut"):
        split(network_file)
    with pytest.raises(CoopexportError, match="--layer and --all were both given"):
        split(network_file, "--all", "--layer", "fc")
    with pytest.raises(CoopexportError, match='there is no layer "nothing"'):
        split(network_file, "--layer", "nothing")


@pytest.mark.parametrize("option", [["--bits", "4"], ["--recommended"], ["--variant", "pruned"], ["--codec", "rans"]])
def test_what_needs_a_project_is_refused(tmp_path: Path, option: list[str]) -> None:
    with pytest.raises(CoopexportError, match=f"{option[0]} needs a project"):
        split(tmp_path / "network.onnx", "--all", *option)


def test_options_of_given_files_need_one() -> None:
    for arguments, words in (
        (["--onnx", "network.onnx"], "--onnx needs --output"),
        (["--output", "out"], "--output is for --onnx"),
    ):
        with pytest.raises(CoopexportError, match=words):
            CliRunner().invoke(split_command, ["--all", *arguments], catch_exceptions=False)


def saved(text: str, path: Path) -> Path:
    path.parent.mkdir(exist_ok=True)
    onnx.save(onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {text}'), str(path))
    return path


# Of noise all is found, so that two runs agree on how much: of real images, it is not.
FINDING = """net (float[1, 8] x) => (float[2, found] y) {
    r = Elu (x) n = NonZero (r) f = Cast <to = 1> (n) y = Neg (f) }"""


def test_a_size_that_depends_on_the_data_cannot_cross_and_all_else_can(tmp_path: Path) -> None:
    path = saved(FINDING, tmp_path / "network.onnx")
    with pytest.raises(
        CoopexportError, match=r"f would cross, whose size may depend on the data \(through NonZero 'n'\)"
    ):
        split(path, "--layer", "f")
    assert not (tmp_path / "out").exists()
    result = split(path, "--all")
    assert result.exit_code == 0, result.output
    (pair,) = read_pairs(tmp_path / "out").pairs
    assert pair.source_tensors == ("r",)


def test_what_stays_the_same_is_said_to_show_nothing(tmp_path: Path) -> None:
    """All of noise is not zero: the places are the same for all inputs."""
    result = split(saved(FINDING, tmp_path / "network.onnx"), "--all")
    assert "constant: nothing is shown" in " ".join(result.output.split())
    assert "same bits" not in result.output
    partly = FINDING.replace("=> (", "=> (float[1, 8] z, ").replace("y = Neg (f)", "y = Neg (f) z = Neg (r)")
    result = split(saved(partly, tmp_path / "more" / "network.onnx"), "--all")
    assert "same bits, but y constant: not shown" in " ".join(result.output.split())


def test_the_pairs_of_another_file_are_not_mixed_in(tmp_path: Path) -> None:
    split(saved(FINDING, tmp_path / "network.onnx"), "--all")
    other = saved(FINDING.replace("Elu", "Tanh"), tmp_path / "other.onnx")
    with pytest.raises(
        CoopexportError, match=r"out holds pairs of another network, network\.onnx \(SHA-256 [0-9a-f]{64}\)"
    ):
        split(other, "--all")


def test_all_cuts_of_up_to_so_many_tensors(tmp_path: Path) -> None:
    path = tmp_path / "network.onnx"
    onnx.save(exported("two_inputs_small"), str(path))
    result = split(path, "--all", "--max-tensors", "2", "--standalone")
    assert result.exit_code == 0, result.output
    pairs = read_pairs(tmp_path / "out")
    assert {len(pair.tensors) for pair in pairs.pairs} == {1, 2}
    assert pairs.standalone
    assert any(item.name == "images/crossing" for pair in pairs.pairs for item in pair.tensors)
