"""`coopexport layers` on a project and on any ONNX file."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

from coopexport import command_line


@pytest.fixture
def graph_file(tmp_path: Path) -> Path:
    nodes = [
        helper.make_node("Relu", ["x"], ["a"], name="first"),
        helper.make_node("Sin", ["a"], ["b"], name="second"),
        helper.make_node("Add", ["a", "b"], ["c"], name="third"),
        helper.make_node("ReduceMean", ["c"], ["y"], name="last", axes=[1]),
    ]
    graph = helper.make_graph(
        nodes,
        "plain",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2048])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 1])],
    )
    path = tmp_path / "plain.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), str(path))
    return path


def cells(output: str, name: str) -> list[str]:
    line = next(line for line in output.splitlines() if line.split("│")[0].strip() == name)
    return [cell.strip() for cell in line.split("│")]


def test_any_onnx_file_is_listed_with_its_input_and_output(coopexport: Callable, graph_file: Path) -> None:
    result = coopexport(graph_file.parent, "layers", "--onnx", "plain.onnx", "--max-tensors", "2")
    assert result.code == 0, result.errors
    assert cells(result.output, "input") == ["input", "the network's own", "2048", "8,192", "0", "0", "no cut needed"]
    assert cells(result.output, "first")[-1] == "yes, dominated"
    assert cells(result.output, "second")[-1] == "no: 2 cross, 16,384 bytes"
    assert cells(result.output, "last")[-1] == "no: an output"
    assert cells(result.output, "output")[3] == "4"
    assert cells(result.output, "first + second") == ["first + second", "2048 + 2048", "16,384", "0", "0", "yes"]
    assert "next: coopexport split --onnx plain.onnx --layer NAME" in result.output
    assert sorted(path.name for path in graph_file.parent.iterdir()) == ["plain.onnx"]


def test_a_project_is_listed_with_its_input_and_output(coopexport: Callable, finished_project: Path) -> None:
    result = coopexport(finished_project, "layers", "--variant", "pruned")
    assert result.code == 0, result.errors
    assert cells(result.output, "input")[2:4] == ["3x32x32", "12,288"]
    assert cells(result.output, "conv4_1")[-1].startswith("yes")
    assert cells(result.output, "output")[2:4] == ["10", "40"]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--onnx", "plain.onnx", "--variant", "pruned"], "an ONNX file has neither"),
        (["--onnx", "none.onnx"], "there is no file none.onnx"),
        (["--onnx", "plain.onnx", "--max-tensors", "1"], "max-tensors"),
    ],
)
def test_what_does_not_fit_is_one_line(
    coopexport: Callable, graph_file: Path, arguments: list[str], reason: str
) -> None:
    result = coopexport(graph_file.parent, "layers", *arguments)
    assert result.code == 2
    assert len(result.error_lines) == 1
    assert reason in result.error_lines[0]


NETWORK = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 4, 3), nn.Linear(4, 5)

    def forward(self, x):
        x = torch.relu(self.conv(x))
        {line}
        return self.fc(x.mean((2, 3)))
"""
PROJECT = """
schema = "coopexport.project/1.0"
[model]
factory = "{module}:Net"
checkpoint = "net.pt"
input_shape = [3, 8, 8]
"""


@pytest.fixture
def signals() -> Iterator[None]:
    """Put back what the command line does to signals."""
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(
    ("module", "line", "reason"),
    [
        ("reads_data", "x = x.data", "does not depend on input 0 of the network"),
        ("writes_data", "x.data.mul_(x.abs().max())", "parity check 'export' failed"),
        ("pools_by_size", "x = nn.functional.avg_pool2d(x, x.size()[2:])", "pools_by_size.py:12 must be a number"),
    ],
)
def test_a_network_that_cannot_be_exported_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], signals: None,
    module: str, line: str, reason: str,
) -> None:  # fmt: skip
    (tmp_path / f"{module}.py").write_text(NETWORK.format(line=line))
    (tmp_path / "coopexport.toml").write_text(PROJECT.format(module=module))
    state = nn.ModuleDict({"conv": nn.Conv2d(3, 4, 3), "fc": nn.Linear(4, 5)}).state_dict()
    torch.save(state, tmp_path / "net.pt")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["coopexport", "layers"])
    monkeypatch.setattr(sys, "path", [*sys.path])
    with pytest.raises(SystemExit) as ended:
        command_line.run()
    output, errors = capfd.readouterr()
    assert (ended.value.code, output, len(errors.splitlines())) == (2, "", 1), (output, errors)
    assert reason in errors
    assert not (tmp_path / "out").exists()
