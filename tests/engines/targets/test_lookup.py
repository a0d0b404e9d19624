"""Targets: every one has what it needs, agrees with NVIDIA's tables, and an unknown one is refused with the nearest."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.backends.registry import all_backends
from engines.targets.lookup import find_target, load_targets
from jetson.errors import CoopexportError

TARGETS = load_targets()
NAMES = tuple(TARGETS)


@pytest.mark.parametrize("name", NAMES)
def test_every_target_has_a_backend_and_what_it_needs(name: str) -> None:
    target = find_target(name)
    assert target.name == name
    assert target.description
    assert target.backend in all_backends()
    assert re.fullmatch(r"[a-z0-9][a-z0-9@.-]*", name)  # a folder's name, and quotable
    if target.backend == "onnxruntime":
        assert target.providers
        assert target.compute_capability is None
    else:
        assert re.fullmatch(r"\d+\.\d", target.compute_capability or "")
        assert target.opset is not None
        assert target.opset >= 13  # the one export is of opset 13
        assert target.fast_fp16
        assert target.fast_int8 is not None
    is_jetson = target.kind == "jetson"
    for value in (target.board, target.chip, target.jetpack, target.l4t, target.last_l4t, target.cuda, target.python):
        assert (value is not None) == is_jetson
    assert target.architecture == ("aarch64" if is_jetson or name == "arm64-cpu" else None)
    assert (target.memory_bytes is not None) == is_jetson
    assert (target.tensorrt is not None) == (is_jetson and target.backend == "tensorrt")
    assert (target.onnxruntime is not None) == (is_jetson and target.backend == "onnxruntime")
    assert target.uint8 == (target.tensorrt is None or not target.tensorrt.startswith("8.2"))


# Board, JetPack, Jetson Linux, TensorRT, CUDA, Python, SM, chip: docs/targets.md says from where.
JETSONS = [
    ("nano", "4.6.1", "32.7", "8.2.1", "10.2", "3.6", "5.3", "tegra210"),
    ("tx2", "4.6.1", "32.7", "8.2.1", "10.2", "3.6", "6.2", "tegra186"),
    ("xavier-nx", "4.6.1", "32.7", "8.2.1", "10.2", "3.6", "7.2", "tegra194"),
    ("agx-xavier", "5.1", "35.2", "8.5.2", "11.4", "3.8", "7.2", "tegra194"),
    ("orin-nano", "5.1", "35.3", "8.5.2", "11.4", "3.8", "8.7", "tegra234"),
    ("orin-nx", "5.1", "35.2", "8.5.2", "11.4", "3.8", "8.7", "tegra234"),
    ("agx-orin", "6.0", "36.3", "8.6.2", "12.2", "3.10", "8.7", "tegra234"),
    ("orin-nano", "6.2", "36.4", "10.3.0", "12.6", "3.10", "8.7", "tegra234"),
    ("thor", "7.0", "38.2", "10.13.3", "13.0", "3.12", "11.0", "tegra264"),
    ("thor", "7.1", "38.4", "10.13.3", "13.0", "3.12", "11.0", "tegra264"),
    ("agx-orin", "7.2", "39.2", "10.16.2", "13.2", "3.12", "8.7", "tegra234"),
]


@pytest.mark.parametrize("row", JETSONS, ids=lambda row: f"{row[0]}@{row[1]}")
def test_jetsons_are_what_nvidia_ships(row: tuple[str, ...]) -> None:
    board, jetpack, l4t, tensorrt, cuda, python, capability, chip = row
    target = find_target(f"{board}@{jetpack}")
    assert (target.board, target.jetpack, target.l4t, target.tensorrt) == (board, jetpack, l4t, tensorrt)
    assert (target.cuda, target.python, target.compute_capability, target.chip) == (cuda, python, capability, chip)
    processor = find_target(f"{board}-cpu@{jetpack}")
    assert (processor.backend, processor.providers) == ("onnxruntime", ("CPUExecutionProvider",))
    runtime = {"3.6": "1.10.0", "3.8": "1.19.2", "3.10": "1.23.2", "3.12": "1.31.1"}
    assert (processor.onnxruntime, processor.python) == (runtime[python], python)


def test_boards_end_and_begin_with_their_jetpack() -> None:
    releases = {
        board: {target.jetpack for target in TARGETS.values() if target.board == board}
        for board in ("nano", "tx2", "xavier-nx", "agx-xavier", "orin-nano", "orin-nx", "agx-orin", "thor")
    }
    assert releases["nano"] == releases["tx2"] == {"4.6.1"}
    assert releases["xavier-nx"] == releases["agx-xavier"] == {"4.6.1", "5.1"}
    assert releases["orin-nano"] == releases["orin-nx"] == releases["agx-orin"] == {"5.1", "6.0", "6.2", "7.2"}
    assert releases["thor"] == {"7.0", "7.1", "7.2"}


@pytest.mark.parametrize(
    ("name", "cores"),
    [("nano", 0), ("tx2", 0), ("xavier-nx", 2), ("agx-xavier@4.6.1", 2), ("orin-nano", 0), ("orin-nx", 2),
     ("orin-nx-8gb", 1), ("agx-orin@5.1", 2), ("agx-orin@6.0", 2), ("agx-orin@7.2", 0), ("thor", 0)],
)  # fmt: skip
def test_dla_cores_are_those_that_this_tensorrt_drives(name: str, cores: int) -> None:
    assert find_target(name).dla_cores == cores


def test_int8_is_for_chips_that_have_kernels() -> None:
    without = {target.board for target in TARGETS.values() if target.fast_int8 is False}
    assert without == {"nano", "tx2"}


def test_processors_without_float16_arithmetic_gain_nothing_by_it_and_of_others_nobody_knows() -> None:
    """Arm v8.0 of Nano and TX2 has none; Carmel (Xavier), Cortex-A78AE (Orin) and Neoverse V3AE (Thor) have it."""
    jetsons = [target for target in TARGETS.values() if target.kind == "jetson"]
    assert {target.board for target in jetsons if not target.half_arithmetic} == {"nano", "tx2"}
    for target in jetsons:
        if target.backend == "onnxruntime":
            assert target.fast_fp16 is (None if target.half_arithmetic else False)


@pytest.mark.parametrize(
    ("name", "modes"),
    [("nano", ("MAXN", "5W")), ("orin-nano", ("15W", "25W", "MAXN_SUPER")), ("orin-nano@6.0", ("15W", "7W")),
     ("orin-nano@7.2", ()), ("thor", ()), ("xavier-nx", ())],
)  # fmt: skip
def test_power_modes_go_by_their_id_and_unknown_ones_are_absent(name: str, modes: tuple[str, ...]) -> None:
    assert find_target(name).power_modes == modes


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("orin-nano", "orin-nano@6.2"),
        ("orin-nano-cpu", "orin-nano-cpu@6.2"),
        ("nano", "nano@4.6.1"),
        ("xavier-nx", "xavier-nx@5.1"),
        ("thor", "thor@7.2"),
        ("orin-nano@6.1", "orin-nano@6.2"),
        ("agx-orin@6.2.2", "agx-orin@6.2"),
        ("xavier-nx-cpu@4.6.3", "xavier-nx-cpu@4.6.1"),
        ("agx-orin@7.2.1", "agx-orin@7.2"),
    ],
)
def test_short_names_and_releases_with_the_same_tensorrt(written: str, meant: str) -> None:
    assert find_target(written) == TARGETS[meant]


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("rtx-adda", "did you mean rtx-ada?"),
        ("rtx-amper", "did you mean rtx-ampere?"),
        ("cdua", "did you mean cuda?"),
        ("orin-nanoo", "did you mean orin-nano?"),
        ("CPU", "list them with: coopexport targets"),
    ],
)
def test_an_unknown_target_names_the_nearest(written: str, said: str) -> None:
    with pytest.raises(CoopexportError, match=f'target "{written}" is unknown') as refusal:
        find_target(written)
    assert said in str(refusal.value)


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        ("rtx-orin", r"no kernels for a Jetson's GPU .*Orin is SM 8\.7"),
        ("rtx-orin-nano", r"use classic TensorRT on the device: --target orin-nano@6\.2"),
        ("rtx-thor", r"Thor SM 11\.0"),
        ("nano@6.2", r"JetPack 6\.2 is not one of the releases of nano that are known here \(4\.6\.1\)"),
        ("thor@5.1", r"7\.0, 7\.1, 7\.2"),
        ("orin-nano-cpu@4.6.1", r"JetPack 4\.6\.1"),
    ],
)
def test_targets_that_cannot_be_are_refused_with_the_reason(written: str, reason: str) -> None:
    with pytest.raises(CoopexportError, match=f'there is no target "{written}": .*{reason}'):
        find_target(written)


@given(st.integers(0, 12), st.integers(0, 20), st.integers(0, 9), st.integers(0, 40))
def test_tensorrt_is_compared_as_a_prefix(major: int, minor: int, patch: int, build: int) -> None:
    found = find_target("orin-nano").takes_tensorrt(f"{major}.{minor}.{patch}.{build}")
    assert found == ((major, minor, patch) == (10, 3, 0))
    assert find_target("tensorrt-ada").takes_tensorrt(f"{major}.{minor}.{patch}.{build}")


def test_a_projects_own_targets_come_first() -> None:
    own = {"cpu": find_target("cuda"), "mine": find_target("rtx-ada")}
    assert find_target("cpu", own) == find_target("cuda")
    assert find_target("mine", own) == find_target("rtx-ada")
    with pytest.raises(CoopexportError, match=r"did you mean mine\?"):
        find_target("mime", own)
