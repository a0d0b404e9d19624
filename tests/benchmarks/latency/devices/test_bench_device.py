"""A project measured on a fake Jetson, over a real OpenSSH server and by hand: both end in the table as its own."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from fake_jetson.boards import ORIN_NANO_6_2
from fake_jetson.device import FakeDevice, make_device
from fake_jetson.ssh_server import SERVER, SshServer, ssh_server
from PIL import Image

from benchmarks.latency.bench_project import BenchRequest, bench_project
from benchmarks.latency.devices.bench_device import bench_over_ssh, import_bench_run, write_bench_order
from benchmarks.latency.devices.bench_order import bench_order
from benchmarks.latency.measured_items import items_to_measure
from benchmarks.latency.reference import reference_sha256
from benchmarks.latency.run import read_run
from benchmarks.latency.table import import_run, latest
from benchmarks.latency.tables.project_table import project_graphs
from benchmarks.selection.select_project import SelectRequest, select_project
from engines.building.build import build
from engines.building.open_engine import open_engine
from engines.building.project_items import items_of_project
from engines.device_builds.agent_file import AgentRequest, write_agent
from engines.targets.lookup import find_target
from exporter.bundles.bundle import read_golden, read_whole
from exporter.progress import no_progress
from exporter.project.settings import Project, load_project
from jetson.engines.build_settings import BuildSettings
from jetson.errors import CoopexportError
from jetson.requests.measurement import CodedTensor
from jetson.runtime.partition_policy import read_partition_policy
from jetson.wire.pictures import picture_libraries

ON_ORIN = BenchRequest(("pruned",), ("conv4_1",), "orin-nano-cpu", 8, 2, energy=False)
PARTS = [
    ("conv4_1", "head"), ("conv4_1", "encode"), ("conv4_1", "decode"), ("conv4_1", "tail"),
    ("whole", "preprocess"), ("whole", "whole"), *[("whole", "encode"), ("whole", "decode")] * 3,
]  # fmt: skip


@pytest.fixture
def project(finished_project: Path) -> Project:
    return load_project(finished_project / "coopexport.toml")


@pytest.fixture
def orin(tmp_path: Path) -> FakeDevice:
    return make_device(ORIN_NANO_6_2, tmp_path / "device", onnxruntime=True)


@pytest.fixture
def server(orin: FakeDevice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SshServer]:
    with ssh_server(orin, tmp_path / "sshd") as running:
        monkeypatch.setenv("COOPEXPORT_SSH", running.client)
        yield running


@pytest.mark.system
@pytest.mark.skipif(not Path(SERVER).exists(), reason="left out: apt-get install openssh-server")
def test_over_ssh_a_run_comes_back_and_is_in_the_table_as_the_devices(project: Project, server: SshServer) -> None:
    events: list[dict[str, Any]] = []
    result = bench_over_ssh(project, ON_ORIN, server.name, on_event=events.append)
    run = read_run(result.path)
    assert run == result.run
    assert [(item.layer, item.part) for item in run.items] == PARTS
    assert {len(item.samples_ms or ()) for item in run.items} == {8}
    assert (run.target, run.host["processor"]) == ("orin-nano-cpu@6.2", ORIN_NANO_6_2.model)
    assert run.host["probe"]["machine"]["l4t"] == "36.4.3"
    assert run.host["pictures"] == picture_libraries()
    assert run.conditions["power_mode"] == {"name": "25W", "identifier": 1}
    assert run.reference is not None
    assert (run.reference.source_sha256, len(run.reference.samples_ms or ())) == (reference_sha256(), 8)
    assert result.rows_added == 12
    assert [(row.layer, row.part) for row in latest(result.table) if row.target == run.target] == PARTS
    assert sum(event["event"] == "measured" for event in events) == 13
    # They are the device's times in the plan, which says so; the original was not measured there.
    request = SelectRequest(device_target=run.target, maximum_loss_points=100)
    plan = read_partition_policy(str(select_project(project, request).path))
    medians_ms = {(row.layer, row.part): row.p50_ms for row in latest(result.table) if row.target == run.target}
    of_cut = {one["variant"]: one for one in plan.candidates if one["layer"] == "conv4_1"}
    parts = [("whole", "preprocess"), ("conv4_1", "head"), ("conv4_1", "encode")]
    assert of_cut["pruned"]["device_ms"] == pytest.approx(sum(medians_ms[part] for part in parts))
    assert (of_cut["pruned"]["device_origin"], of_cut["pruned"]["edge_origin"]) == ("measured", "measured")
    assert of_cut["original"]["device_origin"] == "scaled"
    assert f"measured on target {run.target}" in plan.content["assumptions"]["device_ms"]
    # The rows are of what is here: the same graphs as those that this machine measured.
    here = {(row.layer, row.part): row.source_sha256 for row in latest(result.table) if row.target == "cpu"}
    assert all(item.source_sha256 == here[item.layer, item.part] for item in run.items)
    # Its engines are here with what the device has shown, and a build here does not replace them by less.
    target = find_target("orin-nano-cpu")
    for item in items_of_project(project, ("pruned",), ("conv4_1",)).items:
        again = build(item, target)
        assert again.reused
        assert [check["run_on"].partition(",")[0] for check in again.identity.parity or []] == [ORIN_NANO_6_2.model]
        open_engine(item, target).close()
    left = Path(server.log.parent.parent / "device/home/jetson user/.cache/coopexport/agent/results")
    assert list(left.iterdir()) == []


def test_by_hand_the_run_is_taken_in_once(
    coopexport: Callable[..., Any], finished_project: Path, orin: FakeDevice, tmp_path: Path
) -> None:
    settings = finished_project / "coopexport.toml"
    settings.write_text(
        settings.read_text() + '\n[targets.fast-orin]\nbase = "orin-nano-cpu"\npower_mode = "MAXN_SUPER"\n'
    )
    order, run_file = tmp_path / "order.zip", tmp_path / "run.json"
    bench = ("bench", "--variant", "pruned", "--layer", "conv4_1", "--rounds", "8", "--warm-up", "2", "--no-energy")
    written = coopexport(finished_project, *bench, "--target", "fast-orin", "--order", str(order))
    assert written.code == 0, written.errors
    assert "3 graphs to build and measure" in written.output
    write_agent(AgentRequest(tmp_path / "coop-agent.pyz"))
    ended = orin.agent(tmp_path / "coop-agent.pyz", "bench", order, "--output", run_file)
    assert ended.returncode == 0, ended.stderr
    taken = coopexport(finished_project, "bench", "--result", str(run_file), "--target", "fast-orin")
    assert taken.code == 0, taken.errors
    assert "Latency on NVIDIA Jetson Orin Nano" in taken.output
    told = f"fast-orin: onnxruntime {onnxruntime.__version__}; power mode MAXN_SUPER (25W is back); clocks not held"
    assert told in taken.output
    assert "a sample is: wall time of a call on one thread\n" in taken.output
    assert "added 12 rows" in taken.output
    assert "added 0 rows" in coopexport(finished_project, "bench", "--result", str(run_file)).output
    other = coopexport(finished_project, "bench", "--result", str(run_file), "--target", "cpu")
    assert (other.code, "run.json is of target fast-orin, and --target says cpu" in other.errors) == (2, True)
    both = coopexport(finished_project, "bench", "--result", str(run_file), "--order", str(order))
    assert (both.code, "give one of --device, --order and --result" in both.errors) == (2, True)


def test_a_precision_and_a_batch_are_measured_on_the_device(
    converted_project: Path, orin: FakeDevice, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(converted_project, tmp_path / "project"))
    project = load_project(folder / "coopexport.toml")
    order, run_file = tmp_path / "order.zip", tmp_path / "run.json"
    request = BenchRequest(("pruned",), ("conv4_1",), "orin-nano-cpu", 8, 2, ("int8",), (4,), energy=False)
    assert write_bench_order(project, request, order).count == 3
    write_agent(AgentRequest(tmp_path / "coop-agent.pyz"))
    ended = orin.agent(tmp_path / "coop-agent.pyz", "bench", order, "--output", run_file)
    assert ended.returncode == 0, ended.stderr
    taken = import_bench_run(project, run_file)
    target = taken.run.target
    assert [(item.layer, item.part) for item in taken.run.items] == PARTS
    assert {len(item.samples_ms or ()) for item in taken.run.items} == {8}
    of_images = [item.layer == "whole" and item.part != "whole" for item in taken.run.items]
    assert [item.precision == "fp32" for item in taken.run.items] == of_images
    assert {item.batch for item in taken.run.items} == {4}
    # They are rows of the graphs that are here, and the device's times of the candidates of that batch.
    graphs = project_graphs(project)
    for item in taken.run.items:
        key = (item.variant, item.layer, item.part, item.codec or "", item.precision)
        assert graphs[key] == item.source_sha256
    here = taken.run.model_copy(update={"run": "here", "target": "cpu", "started_at": "2031-01-01T00:00:00+00:00"})
    import_run(taken.table, here)
    rows = [*latest(taken.table, batch=4), *latest(taken.table, "int8", 4)]
    medians_ms = {(row.layer, row.part): row.p50_ms for row in rows if row.target == target}
    chosen = SelectRequest(device_target=target, maximum_loss_points=100, batch=4, precisions=("int8",))
    plan = read_partition_policy(str(select_project(project, chosen).path))
    int8 = [one for one in plan.candidates if one["precision"] == "int8"]
    (cut,) = [one for one in int8 if (one["variant"], one["layer"]) == ("pruned", "conv4_1")]
    parts = [("whole", "preprocess"), ("conv4_1", "head"), ("conv4_1", "encode")]
    assert cut["device_ms"] == pytest.approx(sum(medians_ms[part] for part in parts))
    assert (cut["device_origin"], cut["edge_origin"], cut["batch"]) == ("measured", "measured", 4)


def test_an_order_codes_each_cut_in_each_form_with_the_engines_of_that_form(converted_project: Path) -> None:
    project = load_project(converted_project / "coopexport.toml")
    found = items_to_measure(project, ("pruned",), ("conv4_1",), ("fp32", "int8"))
    order = bench_order(found.items, find_target("orin-nx"), BuildSettings(dla_core=0), 8, 2, no_progress, (1, 4))
    items = {one.item.name: one.item for one in order.pending}
    forms = [("fp32", 1), ("fp32", 4), ("int8", 1), ("int8", 4)]
    measurement = order.measured.measurement
    coded = [
        [
            (items[name].settings.precision, items[name].settings.batches, items[name].role)
            for name in (cut.head, cut.tail)
        ]
        for cut in measurement.cuts
    ]
    assert sorted(coded) == [[(name, (n, n, n), role) for role in ("head", "tail")] for name, n in forms]
    for cut in measurement.cuts:
        assert (items[cut.head].source_sha256, items[cut.tail].source_sha256) == (cut.head_sha256, cut.tail_sha256)
    assert [image.variant for image in measurement.images] == ["pruned"]
    dla = {(item.settings.precision, item.settings.dla_core) for item in items.values()}
    assert dla == {("fp32", None), ("int8", 0)}
    assert items[str(measurement.reference)].settings == BuildSettings()


def test_float16_that_a_device_computes_in_half_is_refused(converted_project: Path, tmp_path: Path) -> None:
    converted = load_project(converted_project / "coopexport.toml")
    request = BenchRequest(("pruned",), ("conv4_1",), "orin-nano-cpu", 8, 2, ("fp16",))
    with pytest.raises(CoopexportError, match="computes float16 in half under ONNX Runtime"):
        write_bench_order(converted, request, tmp_path / "order.zip")
    assert not (tmp_path / "order.zip").exists()


def test_another_machine_is_not_measured_here(project: Project) -> None:
    for target in ("orin-nano-cpu", "nano-cpu"):
        with pytest.raises(CoopexportError, match="is another machine than this one; measure there: coopexport bench"):
            bench_project(project, BenchRequest(("pruned",), ("conv4_1",), target))


@pytest.mark.parametrize("take", [lambda *given: bench_over_ssh(*given[:2], "nobody@nowhere"), write_bench_order])
def test_what_no_device_measures_is_refused_before_any_work(
    project: Project, tmp_path: Path, take: Callable[..., object]
) -> None:
    for target, said in (("cpu", "give the device a target of its own"), ("rtx-ada", "by tensorrt-rtx")):
        with pytest.raises(CoopexportError, match=said):
            take(project, BenchRequest(("pruned",), target=target), tmp_path / "order.zip")
    with pytest.raises(CoopexportError, match=r"an order is a \.zip file; call it order\.zip"):
        write_bench_order(project, ON_ORIN, tmp_path / "order")
    assert list(tmp_path.glob("order*")) == []


def test_a_device_without_uint8_codes_what_its_engines_give(project: Project) -> None:
    items = items_of_project(project, ("pruned",), ("conv4_1",)).items
    nano = bench_order(items, find_target("nano"), BuildSettings(), 8, 2, no_progress)
    orin = bench_order(items, find_target("orin-nano"), BuildSettings(), 8, 2, no_progress)
    (of_nano,), (of_orin,) = (order.measured.measurement.cuts for order in (nano, orin))
    assert of_orin.tensors[0].packing == "none"
    assert of_nano.tensors == (of_orin.tensors[0]._replace(packing="words"),)
    assert isinstance(of_nano.tensors[0], CodedTensor)
    assert [one.item.variant for one in nano.pending] == ["pruned", "pruned", "pruned", "reference"]
    assert nano.kept == nano.pending[:-1]


def test_pictures_go_along_as_they_are_coded_and_decoded_here(project: Project) -> None:
    items = items_of_project(project, ("pruned",), ("conv4_1",)).items
    ordered = bench_order(items, find_target("orin-nano"), BuildSettings(), 8, 2, no_progress).measured
    (image,) = ordered.measurement.images
    whole = read_whole(project.variant_folder("pruned"))
    images = read_golden(project.variant_folder("pruned"), whole.golden)["images"][:4]
    assert [one.name for one in image.coded] == ["jpeg", "webp"]
    for one, settings in zip(image.coded, ({"optimize": True}, {"method": 6}), strict=True):
        assert one.quality == whole.inputs[one.name].quality  # type: ignore[index]
        files = [io.BytesIO() for _ in images]
        for pixels, file in zip(images, files, strict=True):
            Image.fromarray(pixels).save(file, one.name, quality=one.quality, **settings)
        assert one.payload_bytes == tuple(len(file.getvalue()) for file in files)
        with np.load(io.BytesIO(ordered.files[one.decoded_sha256])) as content:
            decoded = [np.asarray(Image.open(file).convert("RGB")) for file in files]
            assert np.array_equal(content["images"], decoded)
