"""The side-by-side run of cutters: all get the same file, and what they write is judged by running it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from torch import nn

from benchmarks.studies.peers import cut
from benchmarks.studies.peers.case_files import NetworkSource
from benchmarks.studies.peers.cut_measure import (
    NotRun,
    OwnResult,
    PeerResult,
    Taken,
    compare_with_whole,
    job_of,
    measure_own,
    measure_peers,
    refusals,
    write_network,
)
from benchmarks.studies.peers.cut_page import CutResults, bound_table, own_table, page, peer_table
from benchmarks.studies.peers.cut_tools import EXTRACT_MODEL, OWN, PEERS, CutTool, Job
from exporter.layers.cut_points import single_tensor_cuts
from exporter.onnx_graphs.index import index_graph

HOST = {"processor": "Some CPU", "system": "Linux 6", "python": "3.11", "load_average": 0.5}


class Residual(nn.Module):
    """Stem, a residual block, a classifier: small, and its outputs depend on its inputs untrained."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3)
        self.branch = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 1))
        self.classifier = nn.Linear(8 * 36, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.stem(x))
        result: torch.Tensor = self.classifier(torch.flatten(torch.relu(x + self.branch(x)), 1))
        return result


PLAIN = NetworkSource("Plain", __name__, "Residual", {}, (3, 8, 8))


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("network") / "network.onnx"
    write_network(PLAIN, path)
    return path


def own(network: str = "ResNet-50", write_s: float = 1.0, **fields: Any) -> OwnResult:
    steps = {"read": Taken(0.2, 0.2), "write": Taken(write_s, 0.5)}
    plain: dict[str, Any] = {
        "file_bytes": 102_000_000,
        "nodes": 126,
        "cuts": 40,
        "steps": steps,
        "enumeration_s": (0.001, 0.002, 0.003),
        "parity": Taken(22.0, 20.0),
        "difference_extended": 0.0,
        "difference_all": 3e-7,
    }
    return OwnResult(network, **{**plain, **fields})


def peer(network: str = "ResNet-50", clock_s: float = 9.6, pairs: int = 4, tool: str = EXTRACT_MODEL) -> PeerResult:
    return PeerResult(network, tool, pairs, Taken(clock_s, clock_s), f"same bits in {pairs} of {pairs}")


def results(owns: tuple[OwnResult, ...], peers: tuple[PeerResult | NotRun, ...]) -> CutResults:
    return CutResults(HOST, {"coopexport": "0.1"}, owns, peers, ("DenseNet-121", (("coopexport", "refuses: it | a"),)))


def tool(name: str) -> CutTool:
    return next(item for item in PEERS if item.name == name)


def test_all_own_pairs_are_written_and_proven(network: Path, tmp_path: Path) -> None:
    result = measure_own("Plain", network, tmp_path / "pairs")
    cuts = single_tensor_cuts(index_graph(onnx.load(str(network))))
    assert result.cuts == len(cuts) == len(list((tmp_path / "pairs").glob("*.head.onnx")))
    assert list(result.steps) == ["read", "infer sizes", "find cuts", "write"]
    assert result.total.clock_s == pytest.approx(sum(item.clock_s for item in result.steps.values()))
    assert all(seconds > 0 for seconds in (*result.enumeration_s, result.parity.clock_s))
    assert result.file_bytes == network.stat().st_size


def test_extract_model_writes_pairs_that_run(network: Path, tmp_path: Path) -> None:
    (result,) = measure_peers("Plain", network, 3, tmp_path, [tool(EXTRACT_MODEL)])
    assert isinstance(result, PeerResult)
    assert (result.pairs, result.verdict) == (3, "same bits in 3 of 3")
    assert len(list((tmp_path / "0").glob("*.onnx"))) == 6


# Polygraphy is started twice for each pair, and takes a second to start.
@pytest.mark.parametrize(("name", "pairs"), [("onnx-ir", 2), ("graphsurgeon", 2), ("Polygraphy", 1)])
def test_optional_peers_write_pairs_that_run(name: str, pairs: int, network: Path, tmp_path: Path) -> None:
    if not tool(name).is_installed():
        pytest.skip("optional peer: pip install onnx-ir onnx-graphsurgeon polygraphy --no-deps")
    (result,) = measure_peers("Plain", network, pairs, tmp_path, [tool(name)])
    assert isinstance(result, PeerResult), result
    assert result.verdict == f"same bits in {pairs} of {pairs}"


def test_own_pairs_can_be_self_contained_as_those_of_the_others(network: Path, tmp_path: Path) -> None:
    (result,) = measure_peers("Plain", network, 2, tmp_path, [OWN])
    assert isinstance(result, PeerResult), result
    assert result.verdict == "same bits in 2 of 2"


def test_missing_and_failing_tools_are_rows_of_words(network: Path, tmp_path: Path, monkeypatch: Any) -> None:
    def fails(job: Job) -> None:
        raise ValueError(f"cannot\nwrite {job.folder}/0.head.onnx")

    monkeypatch.setitem(sys.modules, "onnx_ir", None)
    missing, failing = measure_peers("Plain", network, 2, tmp_path, [tool("onnx-ir"), CutTool("bad", "onnx", fails)])
    assert missing == NotRun("Plain", "onnx-ir", 2, "not installed")
    assert failing == NotRun("Plain", "bad", 2, "fails: ValueError: cannot write 0.head.onnx")


def test_pairs_that_do_not_run_or_compute_something_else_are_told(network: Path, tmp_path: Path) -> None:
    model = onnx.load(str(network))
    tensors = single_tensor_cuts(index_graph(model))[:2]
    job = job_of(model, network, tensors, tmp_path / "job")
    tool(EXTRACT_MODEL).write(job)
    _, _, tail = job.pairs()[0]
    damaged = onnx.load(str(tail))
    bias = next(item for item in damaged.graph.initializer if item.name == "classifier.bias")
    bias.raw_data = b"\x00\x00\x80\x3f" * (len(bias.raw_data) // 4)
    onnx.save(damaged, str(tail))
    assert compare_with_whole(job) == "same bits in 1 of 2"
    tail.write_bytes(b"nothing")
    assert compare_with_whole(job).startswith("does not run: ONNX Runtime cannot load 0.tail.onnx")


def test_a_cut_that_is_not_clean_is_refused_in_words(network: Path, tmp_path: Path) -> None:
    makers = index_graph(onnx.load(str(network))).makers
    tensor = next(name for name in makers if name.startswith("/branch") and "Relu" in name)
    lazy = CutTool(
        "lazy", "onnx", lambda job: [onnx.save(onnx.load(str(network)), path) for path in job.pairs()[0][1:]]
    )
    answers = dict(
        refusals(network, tensor, tmp_path, [OWN, tool(EXTRACT_MODEL), lazy, CutTool("none", "no_such", own)])
    )
    assert "2 tensors cross there" in answers[OWN.name]
    assert answers[EXTRACT_MODEL].startswith("refuses: ")
    assert answers["lazy"].startswith("writes two files and reports no error; head and tail: does not run")
    assert answers["none"] == "not installed"


def bound_rows(owns: tuple[OwnResult, ...], peers: tuple[PeerResult | NotRun, ...]) -> list[list[str]]:
    lines = bound_table(results(owns, peers)).splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_all_pairs_are_held_against_a_few() -> None:
    found = bound_rows((own(), own("VGG-16", 30.0)), (peer(), peer("VGG-16", 29.0, 2)))
    assert found == [
        ["ResNet-50", f"all 40 pairs, against 4 by {EXTRACT_MODEL}", "1.20 s", "9.60 s", "yes"],
        ["ResNet-50", "index and sweep alone", "2.00 ms", "10 ms", "yes"],
        ["VGG-16", f"all 40 pairs, against 2 by {EXTRACT_MODEL}", "30.20 s", "29.00 s", "**no**"],
        ["VGG-16", "index and sweep alone", "2.00 ms", "10 ms", "yes"],
    ]


def test_where_no_bound_was_set_or_the_other_tool_failed_none_is_judged() -> None:
    assert [row[1] for row in bound_rows((own("Plain"),), (peer("Plain"),))] == ["index and sweep alone"]
    found = bound_rows((own(enumeration_s=(0.02,)),), (NotRun("ResNet-50", EXTRACT_MODEL, 4, "fails: it does"),))
    assert [row[2:] for row in found] == [["1.20 s", "–", "not judged"], ["20.00 ms", "10 ms", "**no**"]]


def test_tables_hold_steps_and_words() -> None:
    cells = [cell.strip() for cell in own_table([own()]).splitlines()[-1].strip("|").split("|")]
    assert cells == ["ResNet-50", "102", "126", "40", "0.200", "1.000", "1.20", "0.70", "2.00"]
    lines = peer_table([peer(), NotRun("ResNet-50", "onnx-ir", 4, "not installed")], [own()]).splitlines()
    assert lines[2].startswith("| ResNet-50 | coopexport, shared weights | 40 | 1.20 | 0.70 | 0.030 |")
    assert lines[3].startswith(f"| ResNet-50 | {EXTRACT_MODEL} | 4 | 9.60 |")
    assert lines[4] == "| ResNet-50 | onnx-ir | 4 | – | – | – | not installed |"


def test_page_has_all_parts_and_no_path() -> None:
    text = page(results((own(),), (peer(),)))
    assert text.startswith("# Cutting networks, side by side")
    assert "refuses: it \\| a" in text
    assert str(Path.cwd()) not in text
    assert all(len(line) <= 120 for line in text.splitlines() if not line.startswith("|"))


def test_command_writes_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cut, "run", lambda networks: results((own(networks[0][0].name),), (peer(),)))
    assert cut.main(["--networks", "VGG-16", "--output", str(tmp_path / "page.md")]) == 0
    assert "| VGG-16 | 102 |" in (tmp_path / "page.md").read_text()
