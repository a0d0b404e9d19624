"""The house is built as docs/architecture.md says: wings of a size that can be read, and what each floor may know."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
ROOMS = ("jetson", "exporter", "engines", "calibration", "benchmarks")
MOST_FILES = 14
FEWEST_LINES = 40

# Files below FEWEST_LINES that have a reason of their own.
SHORT_FILES = {
    "benchmarks/links/link.py": "what other wings need of links",
    "benchmarks/prediction/entropy_coders.py": "it reads files of runs; predictions themselves know rows only",
    "engines/backends/registry.py": "it imports every backend; whoever needs one only must not",
    "engines/building/open_engine.py": "the one place where a project's engines are opened",
    "engines/serving/release.py": "what connections know of a plan, without its engines",
    "engines/targets/lookup.py": "what other rooms need of targets",
    "exporter/bundles/accuracy_bound.py": "training, splitting and selection judge by it",
    "exporter/bundles/records.py": "what all manifests share",
    "exporter/cutting/onnx_file.py": "a foreign file is read and refused in one place",
    "exporter/progress.py": "every room's callback",
    "exporter/project/overrides.py": "every verb's request over the project's settings",
    "exporter/shrinking/rebuild.py": "it imports no torch before it is called",
    "exporter/variants/bottleneck_graph.py": "splitting and registry share it; plans.py lies below graphs",
    "jetson/agent/measuring/energy.py": "it knows stages; the measuring knows functions alone",
    "jetson/agent/probe_command.py": "it needs no NumPy",
    "jetson/agent/measuring/built_files.py": "a sitting and the step for memory load engines by it",
    "jetson/client/slowdown.py": "it is for experiments only",
    "jetson/cuda/choice.py": "it imports every way to device memory",
    "jetson/cuda/free_memory.py": "who measures memory needs it; who runs engines does not",
    "jetson/cuda/gpu_times.py": "TensorRT's module and trtexec both tell these times",
    "jetson/device/half_arithmetic.py": "the host's bench and the device's ask it",
    "jetson/device/memory.py": "the agent reads it without the rest of the probe",
    "jetson/runtime/cycle.py": "the host's stages and the device's take samples in turn by it",
    "jetson/runtime/gpu_rounds.py": "the host's rounds and the device's are read by it",
    "jetson/runtime/steadiness.py": "the test that ends a warm-up, apart from taking samples",
    "jetson/version.py": "the build reads it",
    "jetson/stream/packets.py": "who counts bytes on a link needs it, and no frames",
    "jetson/stream/refusals.py": "what both ends name reasons by",
}


def _modules(room: str) -> list[Path]:
    found = sorted((REPOSITORY / room).rglob("*.py"))
    assert found, f"there is no room {room}"
    return found


def _wings(room: str) -> dict[Path, list[Path]]:
    wings: dict[Path, list[Path]] = {}
    for path in _modules(room):
        wings.setdefault(path.parent, []).append(path)
    return wings


@pytest.mark.parametrize("room", ROOMS)
def test_a_wing_can_be_read(room: str) -> None:
    for wing, files in _wings(room).items():
        names = [path.name for path in files if path.name != "__init__.py"]
        assert len(names) <= MOST_FILES, f"{wing.relative_to(REPOSITORY)} has {len(names)} files: {names}"


@pytest.mark.parametrize("room", ROOMS)
def test_a_wing_says_in_one_sentence_what_lives_there_and_hands_on_nothing(room: str) -> None:
    for wing in _wings(room):
        text = (wing / "__init__.py").read_text()
        assert text.startswith('"""'), wing
        assert not re.search(r"^(import|from) ", text, flags=re.MULTILINE), f"{wing}/__init__.py imports"


@pytest.mark.parametrize("room", ROOMS)
def test_short_files_have_a_reason(room: str) -> None:
    short = {
        str(path.relative_to(REPOSITORY))
        for path in _modules(room)
        if path.name not in ("__init__.py", "__main__.py")
        and "studies" not in path.parts
        and len(path.read_text().splitlines()) < FEWEST_LINES
    }
    allowed = {name for name in SHORT_FILES if name.startswith(f"{room}/")}
    assert short == allowed


@pytest.mark.parametrize("room", ROOMS)
def test_no_room_prints_to_a_terminal(room: str) -> None:
    for path in _modules(room):
        if "studies" in path.parts:
            continue
        found = re.findall(r"^\s*(?:import|from) (?:click|rich)\b.*$", path.read_text(), flags=re.MULTILINE)
        assert not found, f"{path.relative_to(REPOSITORY)}: {found}"


def test_every_wing_is_in_the_architecture() -> None:
    text = (REPOSITORY / "docs" / "architecture.md").read_text()
    for room in ROOMS:
        for wing in _wings(room):
            if wing.parent == REPOSITORY / room:
                assert f"`{wing.name}`" in text, f"docs/architecture.md leaves out {room}/{wing.name}"


def test_files_that_the_documentation_names_exist() -> None:
    for name in ("architecture.md",):
        text = (REPOSITORY / "docs" / name).read_text()
        paths = re.findall(rf"`((?:{'|'.join(ROOMS)}|coopexport)/[\w/]+\.py)`", text)
        assert len(paths) > 20
        for path in paths:
            assert (REPOSITORY / path).is_file(), f"docs/{name} names {path}"
