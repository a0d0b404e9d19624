"""Looking at a device: five boards' own texts, a machine that is not a Jetson, and whether it is the target."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from fake_jetson.boards import AGX_ORIN_7_2, BOARDS, NANO_4_6_1, ORIN_NANO_6_2, THOR_7_2, XAVIER_5_1, FakeBoard
from fake_jetson.device import FakeDevice, make_device

from engines.device_builds.requests import request_target
from engines.targets.lookup import find_target, load_targets
from jetson.device.board import jetpack_of, read_board
from jetson.device.clocks import parse_clocks, read_temperatures, read_throttle_events
from jetson.device.matching import board_words, check_device, device_differences
from jetson.device.memory import free_disk_bytes
from jetson.device.power_mode import PowerMode, parse_power_mode
from jetson.device.probe import Probe, describe_probe, take_probe
from jetson.device.tegrastats import parse_tegrastats
from jetson.device.tensorrt_versions import InstalledTensorRT
from jetson.engines.machine import Machine
from jetson.errors import CoopexportError
from jetson.processes import ToolResult
from jetson.requests.build_request import RequestTarget


def probe_of(board: FakeBoard, root: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[FakeDevice, Probe]:
    device = make_device(board, root)
    for name, value in device.environment.items():
        monkeypatch.setenv(name, value)
    return device, take_probe(str(root))


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.target)
def test_a_board_is_seen_as_what_it_is(board: FakeBoard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, probe = probe_of(board, tmp_path / "device", monkeypatch)
    target = find_target(board.target)
    machine = probe.machine
    assert (machine.board, machine.l4t, probe.jetpack) == (board.model, board.l4t, board.jetpack)
    assert (machine.chip, machine.compute_capability) == (target.chip, target.compute_capability)
    version = machine.backends["tensorrt"]
    assert ".".join(map(str, board.tensorrt)).startswith(version)
    assert target.tensorrt is not None
    assert version.startswith(target.tensorrt)
    assert board.package.endswith(f"+cuda{machine.cuda}")
    assert probe.trtexec == str(tmp_path / "device/usr/src/tensorrt/bin/trtexec")
    assert probe.memory is not None
    assert probe.memory.total_bytes == 1024 * board.memory_kib
    assert probe.power_mode is not None
    assert f": {probe.power_mode.name}\n{probe.power_mode.identifier}\n" in board.power_mode
    assert probe.tegrastats is not None
    assert f"RAM {probe.tegrastats.memory_used_mib}/{probe.tegrastats.memory_total_mib}MB" in board.tegrastats
    assert probe.clocks is not None
    assert probe.clocks.held is (board is AGX_ORIN_7_2)
    assert all(value > 0 for value in probe.temperatures.values())
    assert set(probe.unknown) == {"tensorrt_module"}
    assert device_differences(request_target(target), machine, probe.jetpack) == []
    assert probe.to_json()["machine"]["chip"] == target.chip
    assert not any(line.split(None, 1)[1] == "unknown" for line in describe_probe(probe) if "throttled" not in line)


def test_a_machine_that_is_no_jetson_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", os.pathsep.join(["/usr/bin", "/bin"]))
    probe = take_probe(str(tmp_path))
    assert (probe.machine.board, probe.machine.chip, probe.jetpack, probe.memory) == (None, None, None, None)
    assert {"board", "l4t", "trtexec", "power_mode", "clocks", "memory", "tegrastats"} <= set(probe.unknown)
    assert "board         unknown: there is no device tree: this is not a Jetson" in describe_probe(probe)
    with pytest.raises(CoopexportError, match=r"this device is not orin-nano@6\.2: it is not a Jetson \(Linux "):
        check_device(request_target(find_target("orin-nano")), probe.machine, probe.jetpack, "this device")


def test_the_release_is_also_asked_of_the_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    device = make_device(ORIN_NANO_6_2, tmp_path / "device")
    monkeypatch.setenv("PATH", device.environment["PATH"])
    (device.root / "etc/nv_tegra_release").unlink()
    assert read_board(str(device.root)).l4t == "36.4.3"


@pytest.mark.parametrize(
    ("l4t", "jetpack"),
    [("32.7.4", "4.6.4"), ("32.5.1", "4"), ("35.4.1", "5.1.2"), ("35.6.4", "5.1"), ("36.4.3", "6.2"), ("36.4.9", "6"),
     ("36.4.4", "6.2.1"), ("35.6.2", "5.1.5"), ("38.2.1", "7.0"), ("38.4.0", "7.1"),
     ("39.2.1", "7.2.1"), ("28.2.1", None)],
)  # fmt: skip
def test_jetpacks_by_release(l4t: str, jetpack: str | None) -> None:
    assert jetpack_of(l4t) == jetpack


@pytest.mark.parametrize(
    ("board", "gpu", "memory_mhz", "power", "absent"),
    [
        (NANO_4_6_1, (0, 76), None, {"POM_5V_IN": 1522, "POM_5V_GPU": 0, "POM_5V_CPU": 162}, "PMIC"),
        (XAVIER_5_1, (0, 318), 1600, {"GPU": 0, "CPU": 310, "SOC": 930, "CV": 0, "VDDRQ": 155, "SYS5V": 1860}, ""),
        (ORIN_NANO_6_2, (0, 305), 2133, {"VDD_IN": 4872, "VDD_CPU_GPU_CV": 522, "VDD_SOC": 1447}, "cv0"),
        (AGX_ORIN_7_2, (12, 1300), 3199,
         {"VDD_GPU_SOC": 3183, "VDD_CPU_CV": 795, "VIN_SYS_5V0": 4032, "VDDQ_VDD2_1V8AO": 404}, ""),
        (THOR_7_2, (None, 1575), 4266,
         {"VDD_GPU": -12, "VDD_CPU_SOC_MSS": 6350, "VIN_SYS_5V0": 5139, "VIN": 22310}, ""),
    ],
    ids=lambda value: getattr(value, "target", ""),
)  # fmt: skip
def test_tegrastats_of_each_release(
    board: FakeBoard, gpu: tuple[int | None, int], memory_mhz: int | None, power: dict[str, int], absent: str
) -> None:
    stats = parse_tegrastats(board.tegrastats)
    assert stats is not None
    assert (stats.gpu_load_percent, stats.gpu_mhz) == gpu
    assert stats.memory_mhz == memory_mhz
    assert stats.power_mw == power
    assert stats.temperatures
    assert absent not in stats.temperatures  # a zone that is off, and PMIC, which always says 100
    assert max(stats.temperatures.values()) < 60


def test_other_texts_are_not_taken_for_tegrastats_or_a_mode() -> None:
    assert parse_tegrastats("sudo: a password is required") is None
    assert parse_power_mode("NVPM ERROR: failed to read") is None
    assert parse_power_mode("NV Power Mode: MAXN_SUPER") == PowerMode("MAXN_SUPER", None)
    assert parse_clocks("Error: run as root") == {}


def test_clocks_are_in_hertz() -> None:
    assert ORIN_NANO_6_2.clocks is not None
    clocks = parse_clocks(ORIN_NANO_6_2.clocks)
    assert set(clocks) == {"cpu0", "cpu1", "GPU", "EMC"}
    assert clocks["cpu0"].most_hz == 1_728_000_000
    assert clocks["EMC"].now_hz == 3_199_000_000


def test_only_a_jetson_is_asked_for_its_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every engine that is opened asks what machine this is: a process each time would be felt."""
    # Not by the module's name: tests of the command line forget modules, and a new one may stand under it.
    monkeypatch.setitem(read_board.__globals__, "find_program", lambda name: f"/usr/bin/{name}")
    asked = []

    def answer(command: list[str], timeout_s: float) -> ToolResult:
        asked.append(command[-1])
        return ToolResult(0, "36.4.3-20250107174145", "")

    monkeypatch.setitem(read_board.__globals__, "run_program", answer)
    assert read_board(str(tmp_path)).l4t is None
    assert asked == []
    tree = tmp_path / "proc" / "device-tree"
    tree.mkdir(parents=True)
    (tree / "compatible").write_bytes(b"nvidia,p3768-0000+p3767-0005\0nvidia,tegra234\0")
    assert read_board(str(tmp_path)).l4t == "36.4.3"
    assert asked == ["nvidia-l4t-core"]


def test_temperatures_and_throttling(tmp_path: Path) -> None:
    device = make_device(XAVIER_5_1, tmp_path / "device")
    assert read_temperatures(str(device.root)) == {"cpu-thermal": 48.562}
    assert read_throttle_events(str(device.root)) == {"oc1": 0, "oc3": 27}


def test_what_is_kept_for_root_is_not_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def statvfs(folder: str) -> os.statvfs_result:
        asked.append(folder)
        return os.statvfs_result((4096, 512, 1000, 300, 200, 10, 10, 10, 0, 255))  # of 300 free blocks 200 for users

    monkeypatch.setattr(os, "statvfs", statvfs)
    assert free_disk_bytes(str(tmp_path / "not" / "yet.zip")) == 200 * 512
    assert asked == [str(tmp_path)]


def test_the_most_exact_version_counts() -> None:
    assert InstalledTensorRT("10.3.0", "10.3.0.30", None, {}).version == "10.3.0.30"
    assert InstalledTensorRT("11.4.1.2", "10.16.2.10", None, {}).version == "11.4.1.2"  # pip's, which is the one used
    assert InstalledTensorRT(None, "8.2.1", None, {}).version == "8.2.1"
    assert InstalledTensorRT(None, None, None, {}).version is None


def machine(fake: FakeBoard, **change: object) -> Machine:
    chip = fake.compatible[-1].removeprefix("nvidia,")
    backends = {"tensorrt": fake.package.split("-")[0]}
    return Machine("Linux", "aarch64", fake.model, chip, fake.l4t, backends=backends)._replace(**change)


@pytest.mark.parametrize(
    ("board", "target", "said"),
    [
        (NANO_4_6_1, "orin-nano", "its chip is tegra210 .*, expected tegra234; it runs JetPack 4.*, expected 6.2.* "
         "8.2.1, "),
        (AGX_ORIN_7_2, "orin-nano@7.2", "^its board is NVIDIA Jetson AGX Orin Developer Kit, expected orin-nano$"),
        (AGX_ORIN_7_2, "agx-orin@6.2", r"^it runs JetPack 7\.2 \(L4T 39\.2\.0\), expected 6\.2 \(L4T 36\.4 to "
         r"36\.5\); it has TensorRT 10\.16\.2\.10, expected 10\.3\.0$"),
        (ORIN_NANO_6_2, "orin-nx@6.2", "its board is .* expected orin-nx"),
        (XAVIER_5_1, "xavier-nx@5.1", "its board is Jetson-AGX, expected xavier-nx"),
    ],
)  # fmt: skip
def test_a_device_that_is_not_the_target(board: FakeBoard, target: str, said: str) -> None:
    found = "; ".join(device_differences(request_target(find_target(target)), machine(board), board.jetpack))
    assert re.search(said, found), found


@pytest.mark.parametrize(
    ("target", "l4t", "fits"),
    [("orin-nano", "36.4.3", True), ("orin-nano", "36.5.0", True), ("orin-nano", "36.3.0", False),
     ("orin-nano", "36.10.0", False), ("nano", "32.7.6", True), ("nano", "32.6.1", False),
     ("orin-nano@5.1", "35.2.1", False), ("agx-orin@5.1", "35.2.1", True), ("cpu", "36.4.3", True)],
)  # fmt: skip
def test_jetson_linux_is_compared_by_its_numbers(target: str, l4t: str, fits: bool) -> None:
    wanted = request_target(find_target(target))
    device = machine(ORIN_NANO_6_2, chip=wanted.chip, board=None, l4t=l4t, backends={})
    assert (device_differences(wanted, device, None) == []) == fits


def test_what_is_not_known_is_not_compared() -> None:
    target = request_target(find_target("orin-nano"))
    carrier = machine(ORIN_NANO_6_2, board="Seeed reComputer J3011", l4t=None, backends={})
    assert device_differences(target, carrier, None) == []
    assert device_differences(RequestTarget("mine"), machine(NANO_4_6_1), None) == []
    # A later release of the same JetPack has the same TensorRT.
    assert device_differences(target, machine(ORIN_NANO_6_2, l4t="36.5.0"), "6.2.2") == []


def test_every_jetson_of_the_targets_is_told_apart() -> None:
    boards = {target.board for target in load_targets().values() if target.kind == "jetson" and target.board}
    words = {board: board_words(board) for board in boards}
    assert None not in words.values()
    # Sizes of memory have the same model: "agx-orin-32gb" is an AGX Orin.
    kinds = {re.sub(r"-\d+gb$", "", board) for board in boards}
    assert len({frozenset(word or ()) for word in words.values()}) == len(kinds)


def test_a_target_without_a_chip_is_compared_by_its_architecture() -> None:
    target = request_target(find_target("arm64-cpu"))
    assert (target.backend, target.architecture, target.chip) == ("onnxruntime", "aarch64", None)
    assert device_differences(target, Machine("Linux", "aarch64", board="Raspberry Pi 4 Model B Rev 1.4"), None) == []
    assert device_differences(target, Machine("Linux", "x86_64"), None) == ["its processor is x86_64, expected aarch64"]
