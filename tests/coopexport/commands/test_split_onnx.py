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


@pytest.mark.parametrize("option", [["--bits", "4"], ["--recommended"], ["--variant", "pruned"], ["--codec", "rans"]])
def test_what_needs_a_project_is_refused(tmp_path: Path, option: list[str]) -> None:
    with pytest.raises(CoopexportError, match=f"{option[0]} needs a project"):
        split(tmp_path / "network.onnx", "--all", *option)


def test_where_to_cut_must_be_said_once(tmp_path: Path) -> None:
    with pytest.raises(CoopexportError, match="say where to cut"):
        split(tmp_path / "network.onnx")
    with pytest.raises(CoopexportError, match="--layer and --all were both given"):
        split(tmp_path / "network.onnx", "--all", "--layer", "fc")


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


def test_what_stays_the_same_is_said_to_show_nothing(tmp_path: Path) -> None:
    """All of noise is not zero: the places are the same for all inputs."""
    result = split(saved(FINDING, tmp_path / "network.onnx"), "--all")
    assert "constant: nothing is shown" in " ".join(result.output.split())
    assert "same bits" not in result.output
    partly = FINDING.replace("=> (", "=> (float[1, 8] z, ").replace("y = Neg (f)", "y = Neg (f) z = Neg (r)")
    result = split(saved(partly, tmp_path / "more" / "network.onnx"), "--all")
    assert "same bits, but y constant: not shown" in " ".join(result.output.split())
