"""What is usable here and why the rest is not: one line for each thing that a user may ask about."""

from __future__ import annotations

import sys
from importlib import metadata
from pathlib import Path

import pytest

from engines.backends import onnxruntime_backend
from engines.backends.registry import all_backends
from engines.host import doctor
from engines.host.doctor import DoctorRequest, Finding, examine
from engines.targets.lookup import load_targets
from jetson.wire.rans import rans_implementation


def findings(folder: Path) -> dict[str, Finding]:
    found = examine(DoctorRequest(folder)).findings
    by_subject = {finding.subject: finding for finding in found}
    assert len(by_subject) == len(found)
    assert all("\n" not in finding.detail for finding in found)
    return by_subject


def test_a_line_for_python_the_gpu_and_every_target(tmp_path: Path) -> None:
    found = findings(tmp_path)
    assert found["Python"].usable
    assert found["Python"].detail == sys.executable
    assert "GPU" in found
    backends = all_backends()
    here = {name: target for name, target in load_targets().items() if target.kind != "jetson"}
    assert {"target cpu", "target rtx-ada"} <= set(found)
    assert not any("orin" in subject for subject in found)
    for name, target in here.items():
        finding = found[f"target {name}"]
        backend = backends[target.backend]
        assert finding.usable == backend.can_build(target).usable
        assert finding.version == (backend.can_build(target).version or "")
        assert finding.usable or finding.detail == backend.can_build(target).reason
    assert found["target cpu"].detail == "builds and runs here"
    assert not any(finding.subject.startswith("name ") for finding in found.values())


def test_a_target_that_only_builds_says_why_it_does_not_run(tmp_path: Path) -> None:
    finding = findings(tmp_path)["target rtx-ada"]
    if not finding.usable:
        pytest.skip("left out: TensorRT-RTX exists for Linux on x86-64 only")
    assert finding.detail.startswith("builds here; ")
    assert "run on their GPU only" in finding.detail


def test_two_onnxruntimes_at_once_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime_backend, "installed_distributions", lambda: ["onnxruntime", "onnxruntime-gpu"])
    for name in ("cpu", "cuda"):
        finding = findings(tmp_path)[f"target {name}"]
        assert not finding.usable
        assert "both installed" in finding.detail


def test_packages_that_are_missing_or_broken_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    present = findings(tmp_path)["torch"]
    assert present.usable
    assert present.version == metadata.version("torch")
    real = metadata.version

    def version(name: str) -> str:
        if name == "matplotlib":
            raise metadata.PackageNotFoundError(name)
        return "9.9" if name == "pycuda" else real(name)

    monkeypatch.setattr(doctor.metadata, "version", version)
    monkeypatch.setattr(doctor.util, "find_spec", lambda name: None)
    found = findings(tmp_path)
    assert not found["matplotlib"].usable
    assert "coopexport[report]" in found["matplotlib"].detail
    assert (found["pycuda"].usable, found["pycuda"].version) == (False, "9.9")
    assert "module pycuda is not found" in found["pycuda"].detail


@pytest.mark.parametrize("hidden", ["exporter.py", "benchmarks/__init__.py", "jetson/helpers.py"])
def test_names_that_hide_ours_are_listed(tmp_path: Path, hidden: str) -> None:
    (tmp_path / hidden).parent.mkdir(exist_ok=True)
    (tmp_path / hidden).write_text("")
    name = hidden.split("/")[0].removesuffix(".py")
    found = findings(tmp_path)
    assert not found[f"name {name}"].usable
    assert "rename it" in found[f"name {name}"].detail


def test_folders_of_results_hide_nothing(tmp_path: Path) -> None:
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "results.csv").write_text("")
    assert not any(subject.startswith("name ") for subject in findings(tmp_path))


@pytest.mark.parametrize(
    ("answer", "usable", "said"),
    [
        ("echo 'NVIDIA GeForce RTX 4090, 550.54, 8.9'", True, "RTX 4090, 550.54, 8.9"),
        ("exit 9", False, "nvidia-smi is there but fails"),
        ("true", False, "lists no GPU"),
    ],
)
def test_gpus_are_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str, usable: bool, said: str
) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\n{answer}\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    finding = findings(tmp_path)["GPU"]
    assert finding.usable == usable
    assert said in finding.detail


def test_no_driver_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    finding = findings(tmp_path)["GPU"]
    assert not finding.usable
    assert "no nvidia-smi" in finding.detail


def test_the_entropy_coder_is_named_with_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COOPEXPORT_RANS", "python")
    finding = findings(tmp_path)["entropy coder"]
    assert (finding.usable, finding.version) == (False, "python")
    assert "COOPEXPORT_RANS" in finding.detail
    monkeypatch.setenv("COOPEXPORT_RANS", "fortran")
    assert "fortran" in findings(tmp_path)["entropy coder"].detail
    monkeypatch.delenv("COOPEXPORT_RANS")
    finding = findings(tmp_path)["entropy coder"]
    assert finding.version == rans_implementation().name
