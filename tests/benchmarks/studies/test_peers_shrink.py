"""The side-by-side run of shrinkers: every tool gets the same masks, and a failure is a reason, never a number."""

from __future__ import annotations

import copy
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.studies.peers import nni_tool, shrink
from benchmarks.studies.peers.case_files import NetworkSource, load_network, read_case, write_case
from benchmarks.studies.peers.cases import Case, build_case
from benchmarks.studies.peers.footprint import checkpoint_bytes, macs
from benchmarks.studies.peers.measure import NNI, measure, outputs, time_interleaved
from benchmarks.studies.peers.memory import COOPEXPORT, measure_peak_bytes, run_module
from benchmarks.studies.peers.page import Results, page
from benchmarks.studies.peers.rows import BenchmarkCase, Measured, NotMeasured, Row, bound_table, row_table
from exporter.masks.masks import Meaning
from exporter.parity import relative_error
from jetson.errors import CoopexportError

PLAIN = NetworkSource("Plain", "exporter.models.vgg", "vgg16", {"widths": [8] * 13}, (3, 32, 32))
HOST = {"processor": "Some CPU", "system": "Linux 6", "python": "3.11", "load_average": 0.5}
CASE = BenchmarkCase("ResNet-18", "channel", 11_000_000, 1_800_000_000, 44_000_000, 2400, 4800)
LARGE = BenchmarkCase("VGG-16-BN", "weight", 138_000_000, 15_500_000_000, 553_000_000, 6208, 12416)
BOTH: tuple[Meaning, ...] = ("channel", "weight")


class Residual(nn.Module):
    """Two convolutions tied by a sum, behind each other."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.branch = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8))
        self.end = nn.ReLU()
        self.output = nn.Linear(8 * 4, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        x = self.end(x + self.branch(x))
        result: torch.Tensor = self.output(torch.flatten(nn.functional.avg_pool2d(x, 3), 1))
        return result


RESIDUAL = NetworkSource("Residual", __name__, "Residual", {}, (3, 8, 8))


@pytest.fixture(scope="module", params=BOTH)
def plain_case(request: pytest.FixtureRequest) -> Case:
    return build_case(PLAIN, request.param)


def measured(benchmark_case: BenchmarkCase = CASE, tool: str = COOPEXPORT, **fields: Any) -> Measured:
    plain: dict[str, Any] = {
        "times_s": (0.4, 0.2, 0.3),
        "processor_times_s": (0.3, 0.2, 0.2),
        "parameters": 5_500_000,
        "macs": 850_000_000,
        "error_float64": 4e-15,
        "error_float32": 2e-6,
        "peak_bytes": 88_000_000,
    }
    return Measured(benchmark_case, tool, **{**plain, **fields})


def cells(row: Row) -> list[str]:
    return [cell.strip() for cell in row_table([row]).splitlines()[-1].strip("|").split("|")]


def test_row_holds_median_least_sizes_and_peak_as_a_multiple() -> None:
    assert cells(measured())[:3] == ["ResNet-18", "channel", "coopexport"]
    assert cells(measured())[3:] == ["0.30", "0.20", "5.50", "0.850", "4.0e-15", "2.0e-06", "yes", "2.00x", ""]


def test_row_of_a_wrong_result_says_so() -> None:
    row = cells(measured(tool="Other", error_float64=0.8, note="one run"))
    assert (row[-3], row[-1]) == ("**no**", "one run")


def test_row_without_a_measured_peak_has_no_number_there() -> None:
    assert cells(measured(peak_bytes=None))[-2] == "not measured"


def test_failure_is_a_row_of_words_without_any_number() -> None:
    row = cells(NotMeasured(CASE, "Other", "fails: no such thing | at all"))
    assert row[:3] == ["ResNet-18", "channel", "Other"]
    assert row[3:11] == ["–"] * 8


def test_reason_cannot_break_the_table() -> None:
    assert row_table([NotMeasured(CASE, "Other", "a | b")]).endswith("a \\| b |")


def test_bounds_of_time_and_memory_are_judged_row_by_row() -> None:
    lines = bound_table(
        [
            measured(times_s=(0.61,)),
            measured(LARGE, times_s=(2.9,), peak_bytes=1_500_000_000),
            measured(peak_bytes=None),
        ]
    ).splitlines()[2:]
    assert [[cell.strip() for cell in line.strip("|").split("|")] for line in lines] == [
        ["ResNet-18", "channel", "0.61", "0.5", "**no**", "2.00x", "2.5x", "yes"],
        ["VGG-16-BN", "weight", "2.90", "3.0", "yes", "2.71x", "2.5x", "**no**"],
        ["ResNet-18", "channel", "0.30", "0.5", "yes", "not measured", "2.5x", "not judged"],
    ]


def test_page_holds_bounds_of_this_project_alone_and_no_path() -> None:
    rows = (measured(), measured(LARGE), measured(tool="Other"))
    text = page(Results(HOST, {"coopexport": "0.1", "torch": "2.13"}, 3, rows))
    assert text.split("## Bounds")[1].count("\n| ResNet-18 |") == 1
    assert str(Path.cwd()) not in text
    assert all(len(line) <= 120 for line in text.splitlines() if not line.startswith("|"))


def test_macs_are_those_counted_by_hand() -> None:
    network = nn.Sequential(nn.Conv2d(4, 6, 3, groups=2), nn.Flatten(), nn.Linear(6 * 36, 5))
    assert macs(network, torch.zeros(1, 4, 8, 8)) == 36 * 6 * 2 * 9 + 6 * 36 * 5


def test_case_masks_half_of_every_layer_but_the_outputs(plain_case: Case) -> None:
    assert "classifier" not in plain_case.masks.keep
    assert {int(keep.sum()) for keep in plain_case.masks.keep.values()} == {4}
    assert len(plain_case.masks.keep) == 13


def test_zeroed_network_computes_what_the_masked_one_does(plain_case: Case) -> None:
    masked, zeroed = (
        outputs(network, plain_case.inputs, torch.float64)
        for network in (plain_case.masked(), copy.deepcopy(plain_case.zeroed))
    )
    assert relative_error(masked, zeroed, "test") < 1e-12


def test_stored_case_is_read_back(plain_case: Case, tmp_path: Path) -> None:
    write_case(tmp_path, plain_case.stored, plain_case.network)
    stored = read_case(tmp_path)
    network = load_network(tmp_path, stored.source)
    assert stored.source == plain_case.source._replace(arguments={"widths": [8] * 13})
    assert all(np.array_equal(stored.keep[name], keep) for name, keep in plain_case.masks.keep.items())
    assert torch.equal(network(stored.inputs), plain_case.network(plain_case.inputs))


def test_coopexport_row_is_equal_and_nni_is_a_row_with_its_reason(
    plain_case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch_pruning", None)
    own, pruning, nni = measure(plain_case, rounds=1, memory=False)
    assert isinstance(own, Measured)
    assert own.is_equal
    assert own.error_float32 < 1e-3
    assert own.parameters < own.benchmark_case.parameters * 0.6
    assert own.macs < own.benchmark_case.macs * 0.6
    assert len(own.times_s) == 1
    assert own.benchmark_case.checkpoint_bytes == checkpoint_bytes(plain_case.network)
    assert pruning == NotMeasured(own.benchmark_case, "Torch-Pruning", "not run: not installed")
    assert isinstance(nni, NotMeasured)
    assert nni.reason.startswith("not run: ")


def test_peak_is_measured_in_a_process_of_its_own() -> None:
    case = build_case(PLAIN._replace(arguments={"widths": [128] * 13}), "channel")
    size = checkpoint_bytes(case.network)
    assert size < measure_peak_bytes(COOPEXPORT, case.stored, case.network) < 30 * size


def test_process_that_fails_is_an_error_with_its_last_line() -> None:
    with pytest.raises(CoopexportError, match=r"No module named benchmarks\.nothing"):
        run_module("benchmarks.nothing", [])


def test_tool_that_raises_is_a_failure_and_is_not_run_again() -> None:
    calls = []

    def fails() -> nn.Module:
        calls.append(1)
        raise IndexError("out of\nrange")

    timed, failures = time_interleaved({"good": lambda: nn.Identity, "bad": lambda: fails}, rounds=3)
    assert failures == {"bad": "fails: IndexError: out of range"}
    assert len(calls) == 1
    assert len(timed["good"].times_s) == len(timed["good"].processor_times_s) == 3
    assert isinstance(timed["good"].network, nn.Identity)


def test_a_tool_that_cannot_be_prepared_has_a_reason_and_is_not_run() -> None:
    def fails() -> Any:
        raise MemoryError("no room for a copy")

    timed, failures = time_interleaved({"bad": fails, "good": lambda: nn.Identity}, rounds=2)
    assert failures == {"bad": "fails: MemoryError: no room for a copy"}
    assert list(timed) == ["good"]


def test_torch_pruning_equals_where_all_tied_layers_are_masked_only_with_zero_channels() -> None:
    pytest.importorskip("torch_pruning", reason="optional peer: pip install torch-pruning --no-deps")
    rows = {
        (meaning, row.tool): row
        for meaning in BOTH
        for row in measure(build_case(RESIDUAL, meaning), rounds=1, memory=False)
        if isinstance(row, Measured)
    }
    assert {key for key, row in rows.items() if row.is_equal} == {
        ("channel", COOPEXPORT),
        ("weight", COOPEXPORT),
        ("channel", "Torch-Pruning, masked in all"),
    }
    assert ("weight", "Torch-Pruning, masked in any") in rows


def test_torch_pruning_is_one_row_where_no_layers_are_tied() -> None:
    pytest.importorskip("torch_pruning", reason="optional peer: pip install torch-pruning --no-deps")
    rows = measure(build_case(PLAIN, "channel"), rounds=1, memory=False)
    assert [row.tool for row in rows] == [COOPEXPORT, "Torch-Pruning", NNI]
    own, pruned = rows[:2]
    assert isinstance(own, Measured)
    assert isinstance(pruned, Measured)
    assert (own.parameters, own.macs) == (pruned.parameters, pruned.macs)


@pytest.mark.parametrize("tracer_works", [True, False])
def test_nni_worker_gives_masks_and_falls_back_to_a_graph_of_torch_fx(
    tracer_works: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """NNI itself is not here; a double with its signature stands in for it."""
    given: dict[str, Any] = {}

    class ModelSpeedup:
        def __init__(self, model: nn.Module, dummy_input: Any, masks_or_file: Any, graph_module: Any = None) -> None:
            if graph_module is None and not tracer_works:
                raise AttributeError("'NoneType' object has no attribute 'startswith'")
            given.update(model=model, masks=masks_or_file)

        def speedup_model(self) -> nn.Module:
            model: nn.Module = given["model"].train()
            return model

    for name in ("nni", "nni.compression", "nni.compression.speedup"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setattr(sys.modules["nni.compression.speedup"], "ModelSpeedup", ModelSpeedup, raising=False)
    monkeypatch.setattr("importlib.metadata.version", lambda name: "3.0")
    case = build_case(PLAIN, "weight")
    write_case(tmp_path, case.stored, case.zeroed)
    assert nni_tool.main([str(tmp_path)]) == 0
    result = json.loads(capsys.readouterr().out)
    assert ("torch.fx" in result["note"]) is not tracer_works
    assert given["masks"]["features.conv1_1"]["weight"].shape == (8, 3, 3, 3)
    assert given["masks"]["features.conv1_1"]["bias"].sum() == 4
    values = np.load(tmp_path / "float64.npy")
    assert relative_error(outputs(case.masked(), case.inputs, torch.float64), values, "test") < 1e-12


def test_command_writes_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shrink, "PUBLISHED", (PLAIN,))
    monkeypatch.setattr(shrink, "measure", lambda case, rounds, python: (measured(), measured(LARGE)))
    assert shrink.main(["--rounds", "1", "--output", str(tmp_path / "page.md")]) == 0
    text = (tmp_path / "page.md").read_text()
    assert text.startswith("# Shrinking masked networks, side by side")
    assert text.count("| ResNet-18 | channel | coopexport |") == 2  # once per meaning of the masks


def test_command_refuses_no_rounds(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        shrink.main(["--rounds", "0"])
    assert "at least 1" in capsys.readouterr().err
