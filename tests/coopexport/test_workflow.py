"""Every command, one after the other, as a user types them, and what each leaves on the disk."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from importlib import util
from pathlib import Path

import numpy as np
import onnx
import pytest

from coopexport import command_line
from engines.building.build_items import item_of_whole, items_of_layer
from engines.building.open_engine import open_engine
from engines.building.pair import open_pair
from engines.targets.lookup import find_target
from exporter.bundles.bundle import read_split
from exporter.cutting.cut import cut
from exporter.data.datasets import load_dataset, network_inputs
from exporter.layers.candidates import candidates
from exporter.layers.names import find_layer
from exporter.onnx_graphs.session import open_session, run
from exporter.project.settings import load_project
from jetson.runtime.partition_policy import choose, read_partition_policy

REPOSITORY = Path(__file__).resolve().parents[2]


def test_every_command_in_order(coopexport: Callable, project: Path) -> None:
    out = project / "out"
    for arguments, next_step, written in (
        (["doctor"], "", []),
        (["shrink"], "coopexport layers", ["pruned/shrink.json", "pruned/weights.safetensors"]),
        (["layers"], "coopexport split", ["pruned/model.onnx", "original/model.layers.json"]),
        (["calibrate", "--layer", "pool3"], "coopexport split", ["pruned/calibration.json"]),
        (["split", "--layer", "conv4_1"], "coopexport build", ["pruned/conv4_1.split.json", "original/whole.json"]),
        (["build", "--target", "cpu"], "coopexport bench", ["pruned/engines/cpu/conv4_1.head.engine.json"]),
        (["bench", "--rounds", "10", "--warm-up", "1"], "coopexport select", ["latency.sqlite"]),
        (["select"], "coopexport report", ["plan.json"]),
        (["report"], "report.html", ["report.html", "figures/latency_per_network.svg"]),
    ):
        result = coopexport(project, *arguments)
        assert result.code == 0, result.errors
        assert next_step in result.output
        for name in written:
            assert (out / name).is_file(), name
    assert "Traceback" not in result.errors


def test_commands_work_from_a_subfolder_and_from_outside(coopexport: Callable, finished_project: Path) -> None:
    inner = finished_project / "data"
    assert coopexport(inner, "select").code == 0
    outside = coopexport(finished_project.parent, "select", "--project", str(finished_project / "coopexport.toml"))
    assert outside.code == 0


def test_the_written_pair_gives_the_recorded_accuracy(finished_project: Path) -> None:
    project = load_project(finished_project / "coopexport.toml")
    folder = project.variant_folder("pruned")
    cpu = find_target("cpu")
    pair = open_pair(folder, "conv4_1", cpu, cpu)
    evaluation = load_dataset(project, "evaluation")
    results = [pair.infer(image) for image in evaluation.images]
    predicted = np.array([scores.argmax() for scores, _ in results])
    right = float((predicted == evaluation.labels).mean())
    recorded = read_split(folder, "conv4_1")
    assert right == pytest.approx(recorded.metric.value, abs=1e-9)
    assert np.mean([size for _, size in results]) == pytest.approx(recorded.payload_bytes.mean)
    assert recorded.metric.loss_points <= 1.0


@pytest.mark.parametrize("variant", ["original", "pruned"])
def test_unencoded_halves_equal_the_whole_bit_for_bit(finished_project: Path, variant: str) -> None:
    project = load_project(finished_project / "coopexport.toml")
    model = onnx.load(str(project.variant_folder(variant) / "model.onnx"))
    inputs = network_inputs(project, load_dataset(project, "evaluation"))
    layer = find_layer(candidates(model), "conv4_1")
    halves = cut(model, [layer.tensor])
    feature = run(open_session(halves.head, "disabled"), [inputs])[0]
    outputs = run(open_session(halves.tail, "disabled"), [feature])[0]
    whole = run(open_session(model, "disabled"), [inputs])[0]
    assert np.array_equal(outputs.view(np.uint32), whole.view(np.uint32))


def test_float32_encoding_loses_nothing(coopexport: Callable, finished_project: Path) -> None:
    result = coopexport(finished_project, "split", "--layer", "conv4_1", "--encoding", "float32", "--codec", "raw")
    assert result.code == 0, result.errors
    manifest = read_split(finished_project / "out" / "pruned", "conv4_1")
    assert manifest.metric.only_reference_right == manifest.metric.only_this_right == 0
    channels, height, width = manifest.tensors[0].shape
    assert manifest.payload_bytes.mean > 4 * channels * height * width


def test_rebuild_only_what_changed(coopexport: Callable, finished_project: Path) -> None:
    again = coopexport(finished_project, "build", "--target", "cpu", "--layer", "conv4_1")
    assert again.output.count("reused") == 6
    assert coopexport(finished_project, "split", "--layer", "conv4_1", "--percentile", "99").code == 0
    rebuilt = coopexport(finished_project, "build", "--target", "cpu", "--layer", "conv4_1")
    assert rebuilt.output.count("built") > 0
    assert rebuilt.output.count("reused") == 2  # the whole networks did not change


def test_stale_latencies_are_not_used(coopexport: Callable, finished_project: Path) -> None:
    assert coopexport(finished_project, "split", "--layer", "conv4_1", "--percentile", "99").code == 0
    assert coopexport(finished_project, "select").code == 0
    plan = read_partition_policy(str(finished_project / "out" / "plan.json"))
    stale = [c for c in plan.candidates if c["layer"] == "conv4_1"]
    assert len(stale) == 2
    assert all("older graph" in candidate["reason"] for candidate in stale)
    assert all("device_ms" not in candidate for candidate in stale)


def test_plan_and_printed_table_agree(coopexport: Callable, finished_project: Path) -> None:
    result = coopexport(finished_project, "select")
    plan = read_partition_policy(str(finished_project / "out" / "plan.json"))
    assert plan.content["assumptions"]["device_slowdown"] == 5.0
    for link in plan.content["links"]:
        assert f"{link['latency_ms']:.3f}" in result.output
        assert choose(plan, link["goodput_bps"]) == link["candidate"]
    rows = {(c["layer"], c["variant"]) for c in plan.candidates}
    assert {(layer, variant) for layer in ("input", "output") for variant in ("original", "pruned")} <= rows


def test_user_metric_replaces_top1(coopexport: Callable, project: Path) -> None:
    (project / "my_metric.py").write_text(
        "def margin(outputs, labels):\n    return float(outputs.max(axis=1).mean() / 100)\n"
    )
    text = (project / "coopexport.toml").read_text()
    (project / "coopexport.toml").write_text(text.replace('metric = "top1"', 'metric = "my_metric:margin"'))
    result = coopexport(project, "split", "--layer", "conv4_1")
    assert result.code == 0, result.errors
    manifest = read_split(project / "out" / "original", "conv4_1")
    assert manifest.metric.name == "my_metric:margin"
    assert manifest.metric.only_this_right is None


@pytest.mark.skipif(util.find_spec("tensorrt_rtx") is None, reason="TensorRT-RTX exists for Linux on x86-64 only")
@pytest.mark.parametrize(("target", "mask"), [("rtx-ada", 8), ("rtx-ampere", 4)])
def test_rtx_engines_without_a_gpu(coopexport: Callable, finished_project: Path, target: str, mask: int) -> None:
    result = coopexport(finished_project, "build", "--target", target, "--layer", "conv4_1", "--variant", "pruned")
    assert result.code == 0, result.errors
    folder = finished_project / "out" / "pruned"
    bundle = read_split(folder, "conv4_1")
    for role, source in (("head", bundle.head), ("tail", bundle.tail)):
        engine = (folder / "engines" / target / f"conv4_1.{role}.engine").read_bytes()
        identity = json.loads((folder / "engines" / target / f"conv4_1.{role}.engine.json").read_text())
        assert engine[:4] == b"vtrt"
        assert int.from_bytes(engine[16:24], "little") == len(engine)
        assert int.from_bytes(engine[32:36], "little") == mask
        assert identity["source_sha256"] == source.sha256
        assert identity["engine_bytes"] == len(engine)
        assert "parity" not in identity
        assert identity["parity_reason"]
    head = json.loads((folder / "engines" / target / "conv4_1.head.engine.json").read_text())
    assert [value["dtype"] for value in head["outputs"]] == ["uint8"]


def test_engine_of_an_older_bundle_is_not_opened(coopexport: Callable, finished_project: Path) -> None:
    from jetson.errors import CoopexportError

    assert coopexport(finished_project, "split", "--layer", "conv4_1", "--percentile", "99").code == 0
    folder = finished_project / "out" / "pruned"
    cpu = find_target("cpu")
    with pytest.raises(CoopexportError, match="older head"):
        open_engine(items_of_layer(folder, "conv4_1")[0], cpu)
    open_engine(item_of_whole(folder), cpu)


def test_init_writes_a_project_file_once(coopexport: Callable, tmp_path: Path) -> None:
    result = coopexport(tmp_path, "init", "--factory", "my_net:build", "--input-shape", "3,64,64")
    assert result.code == 0, result.errors
    project = load_project(tmp_path / "coopexport.toml")
    assert project.settings.model.factory == "my_net:build"
    assert project.settings.model.input_shape == (3, 64, 64)
    again = coopexport(tmp_path, "init")
    assert again.code == 2
    assert "exists already" in again.errors


def test_help_imports_nothing_heavy() -> None:
    heavy = ["torch", "onnx", "onnxruntime", "numpy", "rich", "pydantic", "matplotlib", "sklearn"]
    script = (
        "import sys\nfrom coopexport.command_line import main\n"
        "from click.testing import CliRunner\n"
        "assert CliRunner().invoke(main, ['--help']).exit_code == 0\n"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    completed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert completed.stdout.strip() == "[]"


def test_help_of_every_command(coopexport: Callable, tmp_path: Path) -> None:
    listed = coopexport(tmp_path, "--help").output
    for name in (
        "init",
        "shrink",
        "variants",
        "layers",
        "split",
        "calibrate",
        "build",
        "bench",
        "select",
        "report",
        "doctor",
        "demo",
    ):
        assert f"  {name} " in listed
        assert coopexport(tmp_path, name, "--help").code == 0


def test_names_that_hide_ours_are_named(coopexport: Callable, tmp_path: Path, project: Path) -> None:
    (project / "benchmarks").mkdir()
    (project / "benchmarks" / "net.py").write_text("def build():\n    pass\n")
    text = (project / "coopexport.toml").read_text()
    path = project / "coopexport.toml"
    path.write_text(text.replace("exporter.models.vgg:vgg16", "benchmarks.net:build"))
    result = coopexport(project, "layers")
    assert result.code == 2
    assert len(result.error_lines) == 1
    assert '"benchmarks"' in result.errors
    assert "rename" in result.errors
    ours = {name: sys.modules[name] for name in command_line.ROOMS}
    assert "benchmarks" in coopexport(project, "doctor").output
    assert {
        name: sys.modules[name] for name in command_line.ROOMS
    } == ours  # where the running process finds its modules


def test_what_python_finds_before_ours_is_refused_and_doctor_still_runs_and_names_it(tmp_path: Path) -> None:
    here, before = tmp_path / "here", tmp_path / "before"
    for package in (here / "jetson", before / "engines"):
        package.mkdir(parents=True)
        (package / "__init__.py").write_text("raise SystemExit('not ours')")
    (before / "calibration.py").write_text("raise SystemExit('not ours')")

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "coopexport", *arguments],
            cwd=here,
            capture_output=True,
            text=True,
            check=False,
            env={"PYTHONPATH": f"{before}:{REPOSITORY}", "PATH": "", "COLUMNS": "400"},
        )

    shadowed = run("--help")
    assert shadowed.returncode == 2
    assert len(shadowed.stderr.splitlines()) == 1
    assert f"{here / 'jetson'} hides coopexport's own package 'jetson'; rename it" in shadowed.stderr
    doctor = run("doctor")
    assert doctor.returncode == 0, doctor.stderr
    listed = " ".join(doctor.stdout.replace("│", " ").split())
    for said in (
        f"{here / 'jetson'} has the name of a package of coopexport; rename it",
        f"{before / 'engines'} hides coopexport's own 'engines'; rename it, or take {before} off PYTHONPATH",
        f"{before / 'calibration.py'} hides coopexport's own 'calibration'; rename it, or take {before} off PYTHONPATH",
    ):
        assert said in listed
    (here / "jetson" / "__init__.py").unlink()
    (before / "engines" / "__init__.py").unlink()
    assert f"{before / 'calibration.py'} hides coopexport's own package 'calibration'" in run("targets").stderr


def test_a_package_of_ours_that_is_gone_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As after uninstalling a distribution that had installed files into it."""
    monkeypatch.setattr(command_line, "__file__", str(tmp_path / "coopexport" / "command_line.py"))
    for arguments in (["doctor"], ["targets"]):
        monkeypatch.setattr(sys, "argv", ["coopexport", *arguments])
        with pytest.raises(SystemExit) as ended:
            command_line.run()
        assert ended.value.code == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"coopexport: error: {tmp_path / 'jetson' / '__init__.py'} is missing")
        assert line.endswith("install coopexport again (pip install --force-reinstall)")


def test_wheel_ships_the_rooms_without_studies_and_tests(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {
        "coopexport",
        "exporter",
        "engines",
        "benchmarks",
        "calibration",
        "jetson",
    }
    assert "engines/targets/targets.toml" in names
    rooms = ("coopexport", "exporter", "engines", "benchmarks", "calibration", "jetson")
    sources = {str(path.relative_to(REPOSITORY)) for room in rooms for path in (REPOSITORY / room).rglob("*.py")}
    studies = {name for name in sources if name.startswith("benchmarks/studies/")}
    assert studies
    assert {name for name in names if name.endswith(".py")} == sources - studies
    metadata = zipfile.ZipFile(wheel).read(next(name for name in names if name.endswith("METADATA"))).decode()
    base = [line for line in metadata.splitlines() if line.startswith("Requires-Dist") and "extra ==" not in line]
    assert not any(heavy in line for line in base for heavy in ("torch", "onnxruntime", "tensorrt", "matplotlib"))


def test_nothing_imports_the_command_line() -> None:
    for room in ("jetson", "exporter", "engines", "calibration", "benchmarks"):
        for path in (REPOSITORY / room).rglob("*.py"):
            text = path.read_text()
            assert "import coopexport" not in text, path
            assert "from coopexport" not in text, path


def run_without_torch(folder: Path, *commands: list[str]) -> subprocess.CompletedProcess[str]:
    """Run commands in a process that finds no torch, one after the other until one fails."""
    script = (
        "import sys\n"
        "sys.modules['torch'] = None\n"
        f"sys.path.insert(0, {str(REPOSITORY)!r})\n"
        "from coopexport.command_line import run\n"
        f"for arguments in {commands!r}:\n"
        "    print('running', arguments, flush=True)\n"
        "    sys.argv = ['coopexport', *arguments]\n"
        "    try:\n"
        "        run()\n"
        "    except SystemExit as ended:\n"
        "        if ended.code:\n"
        "            raise\n"
    )
    return subprocess.run([sys.executable, "-c", script], cwd=folder, capture_output=True, text=True, check=False)


def test_what_follows_a_split_needs_no_torch(finished_project: Path) -> None:
    commands = (
        ["layers"],
        ["split", "--layer", "pool4"],
        ["build", "--target", "cpu"],
        ["bench", "--rounds", "8", "--warm-up", "1"],
        ["select"],
        ["report"],
        ["doctor"],
    )
    completed = run_without_torch(finished_project, *commands)
    assert completed.returncode == 0, (completed.stdout, completed.stderr)
    assert completed.stdout.count("running [") == len(commands)
    assert f"running {commands[-1]}" in completed.stdout


def test_a_missing_package_is_named_with_its_extra(project: Path) -> None:
    completed = run_without_torch(project, ["shrink"])
    assert completed.returncode == 2
    assert len(completed.stderr.splitlines()) == 1
    assert "coopexport[torch]" in completed.stderr
