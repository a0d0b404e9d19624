"""Building: what is reused, what is built again, what is refused, and an identity that says only what is true."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from importlib import util
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper
from small_graphs import small_inputs, small_network, small_specification
from tests_support import files_below

import engines.building.build
from engines.backends.interface import Availability, Engine
from engines.backends.registry import find_backend
from engines.building.build import build, build_engine, plain_settings
from engines.building.build_items import BuildItem, item_of_whole, items_of_layer
from engines.building.open_engine import open_engine
from engines.host.this_machine import this_machine
from engines.target_files.target_file import target_file
from engines.targets.lookup import find_target
from exporter.bundles.bundle import CutTensorRecord, FileRecord, golden_bytes, read_golden
from exporter.onnx_graphs.session import open_session, run
from jetson.engines.build_settings import BuildSettings
from jetson.engines.identity import EngineIdentity, encode_identity, identity_path, read_identity
from jetson.engines.verification import read_engine
from jetson.errors import CoopexportError
from jetson.files.atomic_files import sha256_of_bytes, sha256_of_file
from jetson.version import VERSION

CPU = find_target("cpu")
ADA = find_target("rtx-ada")
SYMBOLS = CutTensorRecord(name="t", shape=(4,), encoding=small_specification(), codec="raw")
ROLES = ("head", "tail", "whole")
rtx_installed = pytest.mark.skipif(
    util.find_spec("tensorrt_rtx") is None, reason="left out: TensorRT-RTX exists for Linux on x86-64 only"
)


@pytest.fixture
def folder(tmp_path: Path, split_project: Path) -> Path:
    """A copy of a variant's bundles, no engines."""
    ignored = shutil.ignore_patterns("engines")
    return Path(shutil.copytree(split_project / "out" / "pruned", tmp_path / "pruned", ignore=ignored))


def item_of(folder: Path, role: str) -> BuildItem:
    head, tail = items_of_layer(folder, "conv4_1")
    return {"head": head, "tail": tail, "whole": item_of_whole(folder)}[role]


@pytest.mark.parametrize("role", ROLES)
def test_identity_is_complete_and_true(folder: Path, role: str) -> None:
    item = item_of(folder, role)
    result = build(item, CPU)
    assert not result.reused
    identity = result.identity
    engine = result.path.read_bytes()
    assert read_identity(str(result.path)) == identity
    assert read_engine(str(result.path)) == (identity, engine)
    assert (identity.engine_sha256, identity.engine_bytes) == (sha256_of_bytes(engine), len(engine))
    assert identity.source_sha256 == item.graph.sha256 == sha256_of_file(str(folder / item.graph.file))
    model = target_file(onnx.load(str(folder / item.graph.file)), CPU, (1, 1, 1), role)
    assert identity.target_file_sha256 == sha256_of_bytes(model.SerializeToString(deterministic=True))
    assert (identity.variant, identity.layer, identity.role) == (
        "pruned",
        "whole" if role == "whole" else "conv4_1",
        role,
    )
    assert (identity.target, identity.backend, identity.backend_version) == (
        "cpu",
        "onnxruntime",
        onnxruntime.__version__,
    )
    assert (identity.precision, identity.batches, identity.compute_capabilities) == ("fp32", (1, 1, 1), ())
    assert identity.settings == BuildSettings()
    assert identity.golden_sha256 == item.golden.sha256
    session = open_session(result.path, "disabled")
    for described, found in ((identity.inputs, session.get_inputs()), (identity.outputs, session.get_outputs())):
        assert [(value["name"], value["shape"]) for value in described] == [(item.name, item.shape) for item in found]
        kinds = {"float32": "tensor(float)", "uint8": "tensor(uint8)"}
        assert [kinds[value["dtype"]] for value in described] == [item.type for item in found]
    assert identity.flags == {**BuildSettings().to_json(), "optimisation": "all", "threads": 1}
    here = this_machine()
    assert identity.machine == here
    assert (identity.builder, identity.coopexport_version) == ("onnxruntime", VERSION)
    assert 0 <= identity.build_seconds < 60
    assert identity.parity_reason is None
    assert identity.parity is not None
    (check,) = identity.parity
    assert check["check"] == "build"
    assert check["samples"] == 16
    assert 0 <= check["error"] <= check["bound"] == 1e-3
    stored = json.loads(Path(identity_path(str(result.path))).read_text())
    assert stored["schema"] == "coopexport.engine/2.0"
    assert set(stored) - {"schema", "identity_sha256"} == set(EngineIdentity._fields) - {"parity_reason"}


@rtx_installed
def test_an_engine_that_cannot_run_here_says_why_nobody_checked_it(folder: Path) -> None:
    result = build(item_of(folder, "head"), ADA)
    assert result.path.name == "conv4_1.head.engine"
    identity = result.identity
    assert identity.parity is None
    assert identity.parity_reason == find_backend("tensorrt-rtx").can_run(ADA).reason
    assert (identity.backend, identity.compute_capabilities) == ("tensorrt-rtx", ("8.9",))
    assert [value["dtype"] for value in identity.outputs] == ["uint8"]
    assert identity.flags["compute_capabilities"] == ["8.9"]
    assert (identity.flags["strongly_typed"], identity.flags["tf32"]) == (True, False)
    assert read_engine(str(result.path)) == (identity, result.path.read_bytes())
    assert build(item_of(folder, "head"), ADA).reused
    with pytest.raises(CoopexportError, match="run on their GPU only"):
        open_engine(item_of(folder, "head"), ADA)


def test_the_same_again_is_reused_untouched(folder: Path) -> None:
    first = build(item_of(folder, "tail"), CPU)
    before = {path: path.stat().st_mtime_ns for path in first.path.parent.iterdir()}
    again = build(item_of(folder, "tail"), CPU)
    assert again.reused
    assert (again.path, again.identity) == (first.path, first.identity)
    assert {path: path.stat().st_mtime_ns for path in first.path.parent.iterdir()} == before
    assert not any(name.endswith(".part") or "/.coopexport" in name for name in files_below(folder))


@pytest.mark.parametrize(
    "change",
    [
        {"backend_version": "1.10.0"},
        {"coopexport_version": "0.0.1"},
        {"builder": "trtexec"},
        {"target": "cuda"},
        {"compute_capabilities": ("8.6",)},
        {"backend": "tensorrt"},
        {"layer": "pool3"},
        {"role": "head"},
        {"variant": "original"},
        {"source_sha256": "0" * 64},
        {"target_file_sha256": "0" * 64},
        {"parity": None, "parity_reason": "there was no CPU then"},
        {"golden_sha256": "0" * 64},
        {"settings": BuildSettings(batches=(2, 2, 2))},
    ],
    ids=lambda change: next(iter(change)),
)
def test_an_engine_of_something_else_is_built_again(folder: Path, change: dict[str, Any]) -> None:
    first = build(item_of(folder, "tail"), CPU)
    Path(identity_path(str(first.path))).write_bytes(encode_identity(first.identity._replace(**change)))
    again = build(item_of(folder, "tail"), CPU)
    assert not again.reused
    dated = {"built_at": "", "build_seconds": 0.0, "parity": None}
    assert again.identity._replace(**dated) == first.identity._replace(**dated)
    assert build(item_of(folder, "tail"), CPU).reused


@pytest.mark.parametrize("damage", ["engine", "identity", "no identity", "no engine"])
def test_a_damaged_engine_is_built_again(folder: Path, damage: str) -> None:
    first = build(item_of(folder, "tail"), CPU)
    engine, identity = first.path.read_bytes(), Path(identity_path(str(first.path)))
    if damage == "engine":
        first.path.write_bytes(engine[:-1] + bytes([engine[-1] ^ 1]))
    elif damage == "identity":
        identity.write_text("{}")
    else:
        (identity if damage == "no identity" else first.path).unlink()
    assert not build(item_of(folder, "tail"), CPU).reused
    assert first.path.read_bytes() == engine
    assert read_engine(str(first.path))[0].engine_sha256 == first.identity.engine_sha256


def test_another_graph_is_built_again(folder: Path, split_project: Path) -> None:
    first = build(item_of(folder, "tail"), CPU)
    model = onnx.load(str(folder / "conv4_1.tail.onnx"), load_external_data=False)
    model.graph.doc_string = "another file"
    item = with_graph(item_of(folder, "tail"), model.SerializeToString())
    second = build(item, CPU)
    assert not second.reused
    assert second.identity.source_sha256 == item.graph.sha256 != first.identity.source_sha256
    with pytest.raises(CoopexportError, match="older tail"):
        open_engine(item_of(folder, "tail"), CPU)


def with_graph(item: BuildItem, graph: bytes) -> BuildItem:
    (item.folder / "other.onnx").write_bytes(graph)
    return dataclasses.replace(item, graph=FileRecord(file="other.onnx", sha256=sha256_of_bytes(graph)))


@pytest.mark.parametrize("damaged", ["conv4_1.tail.onnx", "conv4_1.golden.npz", "weights"])
@pytest.mark.parametrize("there_already", [False, True])
def test_a_damaged_bundle_is_refused(folder: Path, damaged: str, there_already: bool) -> None:
    item = item_of(folder, "tail")
    if there_already:
        build(item, CPU)
    path = folder / damaged
    if damaged == "weights":
        locations = [
            entry.value
            for tensor in onnx.load(str(folder / item.graph.file), load_external_data=False).graph.initializer
            for entry in tensor.external_data
            if entry.key == "location"
        ]
        path = folder / locations[0]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    before = files_below(folder)
    with pytest.raises(CoopexportError, match=path.name):
        build(item, CPU)
    assert files_below(folder) == before


def with_golden(item: BuildItem, change: Callable[[dict[str, np.ndarray]], None]) -> BuildItem:
    """Return the item with golden data regenerated with other values, their hash recorded."""
    golden = {name: value.copy() for name, value in read_golden(item.folder, item.golden).items()}
    change(golden)
    content = golden_bytes(golden)
    (item.folder / item.golden.file).write_bytes(content)
    return dataclasses.replace(item, golden=FileRecord(file=item.golden.file, sha256=sha256_of_bytes(content)))


def shift_scores(golden: dict[str, np.ndarray]) -> None:
    golden["outputs"][3, 4] += 0.01 * np.ptp(golden["outputs"], axis=0).max()


def shift_one_symbol_by_two(golden: dict[str, np.ndarray]) -> None:
    symbols = golden["symbols_0"].reshape(-1)
    symbols[5] = symbols[5] + 2 if symbols[5] < 100 else symbols[5] - 2


def shift_many_symbols_by_one(golden: dict[str, np.ndarray]) -> None:
    symbols = golden["symbols_0"].reshape(-1)
    few = symbols[: max(1, len(symbols) // 500)]
    few += np.where(few < 100, 1, 255).astype(np.uint8)


def swap_dtype(golden: dict[str, np.ndarray]) -> None:
    golden["symbols_0"] = golden["symbols_0"].astype(np.float32)


@pytest.mark.parametrize(
    ("role", "change", "said"),
    [
        ("tail", shift_scores, r"conv4_1.tail for cpu: .* error (1\.0\de-02|9\.9\de-03).* the limit is 1e-03"),
        ("whole", shift_scores, r"whole for cpu: .* error (1\.0\de-02|9\.9\de-03).* the limit is 1e-03"),
        ("head", shift_one_symbol_by_two, r"conv4_1.head for cpu: a symbol differs by 2 .*the limit is 1"),
        ("head", shift_many_symbols_by_one, r"conv4_1.head for cpu: .*error \d\.\d\de-03.* the limit is 1e-03"),
        ("head", swap_dtype, r"conv4_1.head for cpu: the engine returns uint8 .* hold float32"),
    ],
)
def test_an_engine_that_computes_something_else_is_refused_with_the_number(
    folder: Path, role: str, change: Callable[[dict[str, np.ndarray]], None], said: str
) -> None:
    item = with_golden(item_of(folder, role), change)
    before = files_below(folder)
    with pytest.raises(CoopexportError, match=said):
        build(item, CPU)
    assert files_below(folder) == before
    assert not (folder / "engines").exists()


def test_a_refused_engine_leaves_the_old_one(folder: Path) -> None:
    first = build(item_of(folder, "tail"), CPU)
    model = onnx.load(str(folder / "conv4_1.tail.onnx"), load_external_data=False)
    low = next(tensor for tensor in model.graph.initializer if tensor.name == "symbols_0.low")
    low.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(low) + np.float32(0.5), low.name))
    item = with_graph(item_of(folder, "tail"), model.SerializeToString())
    with pytest.raises(CoopexportError, match="parity check 'build' failed"):
        build(item, CPU)
    assert read_engine(str(first.path))[0] == first.identity


@rtx_installed
def test_an_engine_that_begins_unlike_its_kind_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replaced = dataclasses.replace(find_backend("tensorrt-rtx"), build=lambda *given: Engine(b"ptrt....", {}))
    monkeypatch.setattr(engines.building.build, "find_backend", lambda name: replaced)
    with pytest.raises(CoopexportError, match=r"does not begin like its engines \(b'ptrt'\)"):
        build(item_of(folder, "head"), ADA)
    assert not (folder / "engines").exists()


def test_an_engine_nobody_could_check_is_built_again_where_it_can_be(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = find_backend("onnxruntime")
    blind = dataclasses.replace(backend, can_run=lambda target: Availability(False, "1", "the GPU is away"))
    with monkeypatch.context() as patched:
        patched.setattr(engines.building.build, "find_backend", lambda name: blind)
        unchecked = build(item_of(folder, "tail"), CPU)
        assert (unchecked.identity.parity, unchecked.identity.parity_reason) == (None, "the GPU is away")
        assert build(item_of(folder, "tail"), CPU).reused
    checked = build(item_of(folder, "tail"), CPU)
    assert not checked.reused
    assert checked.identity.parity


HERE = this_machine()._replace(operating_system="Linux", board=None, chip=None, l4t=None, gpu=None)
PC = HERE._replace(architecture="x86_64")
ORIN = HERE._replace(architecture="aarch64", chip="tegra234", board="NVIDIA Jetson Orin Nano Developer Kit")
SERVER = HERE._replace(architecture="aarch64")
ORIN_CPU = find_target("orin-nano-cpu")


def rounding_to_half(item: BuildItem) -> BuildItem:
    """Return an item whose graph rounds its outputs to half: too little for its golden data to tell."""
    model = onnx.load(str(item.folder / item.graph.file))
    (output,) = model.graph.output
    name, output.name = output.name, "rounded"
    cast = onnx.helper.make_node
    half, single = onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT
    model.graph.node.extend([cast("Cast", [name], ["half"], to=half), cast("Cast", ["half"], ["rounded"], to=single)])
    return with_graph(item, model.SerializeToString())


def test_float16_for_a_boards_processor_counts_on_the_board_only(folder: Path) -> None:
    item = rounding_to_half(item_of(folder, "whole"))
    for machine in (PC, SERVER):
        result = build(item, ORIN_CPU, machine=machine)
        assert not result.reused or machine == SERVER
        identity = read_identity(str(result.path))
        assert identity.parity is None
        assert identity.parity_reason == (
            "not run on the device: it holds float16, which ONNX Runtime computes as the processor does, in half or in "
            f"float32; the golden data agree on Linux x86_64 with ONNX Runtime {onnxruntime.__version__}, which shows "
            "nothing of the device"
        )
    there = build(item, ORIN_CPU, machine=ORIN)
    assert not there.reused
    assert there.identity.parity is not None
    assert [check["run_on"] for check in there.identity.parity] == [
        f"NVIDIA Jetson Orin Nano Developer Kit, Linux aarch64, ONNX Runtime {onnxruntime.__version__}"
    ]
    assert build(item, ORIN_CPU, machine=PC).identity == there.identity  # it shows more than a run here would
    # The same file for any processor is judged where it runs.
    assert build(item, CPU, machine=PC).identity.parity


def test_an_engine_that_claims_more_than_its_check_showed_is_built_again(folder: Path) -> None:
    item = rounding_to_half(item_of(folder, "whole"))
    first = build(item, ORIN_CPU, machine=PC)
    claimed = first.identity._replace(parity=[{"check": "build", "error": 0.0, "bound": 1e-3}], parity_reason=None)
    Path(identity_path(str(first.path))).write_bytes(encode_identity(claimed))
    again = build(item, ORIN_CPU, machine=PC)
    assert (again.reused, again.identity.parity) == (False, None)


def test_float16_that_computes_something_else_is_refused_for_a_device_as_well(folder: Path) -> None:
    item = with_golden(rounding_to_half(item_of(folder, "whole")), shift_scores)
    with pytest.raises(CoopexportError, match=r"whole for orin-nano-cpu@6.2: .* the limit is 1e-03"):
        build(item, ORIN_CPU, machine=PC)
    assert not (folder / "engines").exists()


@pytest.mark.parametrize("role", ROLES)
def test_float32_for_a_boards_processor_says_where_it_was_run(folder: Path, role: str) -> None:
    item, version = item_of(folder, role), onnxruntime.__version__
    here = build(item, ORIN_CPU, machine=PC)
    assert here.identity.parity is not None
    assert {check["run_on"] for check in here.identity.parity} == {f"Linux x86_64, ONNX Runtime {version}"}
    assert build(item, ORIN_CPU, machine=PC).reused
    there = build(item, ORIN_CPU, machine=SERVER)
    assert not there.reused
    assert there.identity.parity is not None
    assert {check["run_on"] for check in there.identity.parity} == {f"Linux aarch64, ONNX Runtime {version}"}
    assert build(item, ORIN_CPU, machine=PC).identity == there.identity


def test_an_engine_for_any_processor_is_checked_again_on_another_architecture(folder: Path) -> None:
    item = item_of(folder, "tail")
    first = build(item, CPU, machine=PC)
    assert build(item, CPU, machine=PC).identity == first.identity
    assert not build(item, CPU, machine=SERVER).reused


@pytest.mark.parametrize("batch", [3, 16, 20])
def test_larger_batches_are_checked_on_all_golden_data(folder: Path, batch: int) -> None:
    batches = (batch, batch, batch)
    result = build(item_of(folder, "tail"), CPU, plain_settings(CPU, batches))
    assert result.path.name == f"conv4_1.tail.batch{batch}.onnx"
    assert result.identity.batches == batches
    assert result.identity.inputs[0]["shape"][0] == result.identity.outputs[0]["shape"][0] == batch
    assert result.identity.parity is not None
    assert result.identity.parity[0]["samples"] == 16
    open_engine(item_of(folder, "tail"), CPU, batches)
    with pytest.raises(CoopexportError, match=r"tail\.onnx is missing"):
        open_engine(item_of(folder, "tail"), CPU)
    assert not build(item_of(folder, "tail"), CPU).reused
    open_engine(item_of(folder, "tail"), CPU)


def test_an_engine_for_another_target_is_not_opened(folder: Path) -> None:
    built = build(item_of(folder, "tail"), CPU)
    shutil.copytree(built.path.parent, folder / "engines" / "cuda")
    with pytest.raises(CoopexportError, match="needed is target cuda, its identity says cpu"):
        open_engine(item_of(folder, "tail"), find_target("cuda"))


def test_a_missing_engine_names_the_command(folder: Path) -> None:
    with pytest.raises(CoopexportError, match=r"conv4_1\.head\.onnx is missing; make it with: coopexport build"):
        open_engine(item_of(folder, "head"), CPU)
    with pytest.raises(CoopexportError, match="coopexport split --layer conv5_1"):
        items_of_layer(folder, "conv5_1")


def test_engines_of_graphs_in_memory(tmp_path: Path) -> None:
    model = small_network()
    engine = build_engine(model, "cpu", batch=2)
    (tmp_path / "engine.onnx").write_bytes(engine.data)
    inputs = small_inputs(2)
    found = run(open_session(tmp_path / "engine.onnx", "disabled"), [inputs])[0]
    assert np.array_equal(found, run(open_session(model, "disabled"), [inputs])[0])
    with pytest.raises(CoopexportError, match="did you mean cpu"):
        build_engine(model, "cpuu")


def test_an_altered_preprocessing_is_refused(finished_project: Path) -> None:
    folder = finished_project / "out" / "pruned"
    manifest = folder / "conv4_1.split.json"
    content = json.loads(manifest.read_text())
    content["preprocessing"]["mean"] = [0.4, 0.5, 0.5]
    manifest.write_text(json.dumps(content))
    with pytest.raises(CoopexportError, match="golden images"):
        build(items_of_layer(folder, "conv4_1")[0], find_target("cpu"))
