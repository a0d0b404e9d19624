"""Where boards show their power: files as their drivers have them, and what is summed up."""

from __future__ import annotations

from pathlib import Path

import pytest
from fake_jetson.boards import AGX_ORIN_7_2, NANO_4_6_1, ORIN_NANO_6_2, THOR_7_2, FakeBoard
from fake_jetson.device import make_device

from jetson.errors import CoopexportError
from jetson.runtime.power_rails import Counter, RaplReader, find_power_source


def write(root: Path, files: dict[str, object]) -> None:
    for path, content in files.items():
        target = root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(f"{content}\n")


def hwmon(number: int, channels: dict[int, tuple[str, int, int]], **more: object) -> dict[str, object]:
    """Return the files of an INA3221 of JetPack 5 on: by channel name, millivolts, milliamperes."""
    folder = f"/sys/class/hwmon/hwmon{number}"
    files: dict[str, object] = {f"{folder}/name": "ina3221"}
    for channel, (name, millivolts, milliamperes) in channels.items():
        files[f"{folder}/in{channel}_label"] = name
        files[f"{folder}/in{channel}_input"] = millivolts
        files[f"{folder}/curr{channel}_input"] = milliamperes
    return {**files, **{f"{folder}/{name}": value for name, value in more.items()}}


def iio(address: str, device: int, rails: dict[int, tuple[str, int]]) -> dict[str, object]:
    """Return the files of JetPack 4's driver: by channel name and milliwatts."""
    folder = f"/sys/bus/i2c/drivers/ina3221x/{address}/iio:device{device}"
    files: dict[str, object] = {}
    for channel, (name, milliwatts) in rails.items():
        files.update({f"{folder}/rail_name_{channel}": name, f"{folder}/in_power{channel}_input": milliwatts})
    return files


ORIN_NANO = hwmon(
    1, {1: ("VDD_IN", 5000, 1000), 2: ("VDD_CPU_GPU_CV", 5000, 104), 3: ("VDD_SOC", 5000, 289)},
    in7_label="sum of shunt voltages", in7_input=7000, update_interval=4,
)  # fmt: skip
AGX_ORIN = {
    **hwmon(3, {1: ("VDD_GPU_SOC", 12000, 250), 2: ("VDD_CPU_CV", 12000, 70), 3: ("VIN_SYS_5V0", 5000, 800)}),
    **hwmon(4, {1: ("NC", 0, 0), 2: ("VDDQ_VDD2_1V8AO", 5000, 80), 3: ("NC", 0, 0)}, update_interval=140),
}
THOR = {
    **hwmon(1, {1: ("VDD_GPU", 9000, 100), 2: ("VDD_CPU_SOC_MSS", 9000, 700)}),
    "/sys/class/hwmon/hwmon2/name": "ina238",
    "/sys/class/hwmon/hwmon2/power1_input": 22_310_000,  # microwatts
}
NANO = iio("6-0040", 0, {0: ("POM_5V_IN", 2200), 1: ("POM_5V_GPU", 40), 2: ("POM_5V_CPU", 500)})
TX2 = {
    **iio("0-0040", 0, {0: ("VDD_SYS_GPU", 152), 1: ("VDD_SYS_SOC", 381)}),
    **iio("0-0041", 1, {0: ("VDD_IN", 3056), 1: ("VDD_SYS_CPU", 305)}),
}
XAVIER = {
    **iio("1-0040", 0, {0: ("GPU", 10), 1: ("CPU", 310), 2: ("SOC", 930)}),
    **iio("1-0041", 1, {0: ("CV", 0), 1: ("VDDRQ", 155), 2: ("SYS5V", 1860)}),
}


@pytest.mark.parametrize(
    ("files", "kind", "rails", "milliwatts", "interval_s"),
    [
        (ORIN_NANO, "ina3221", ("VDD_IN",), 5000, 0.02),
        (AGX_ORIN, "ina3221", ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0", "VDDQ_VDD2_1V8AO"), 8240, 0.14),
        (THOR, "ina3221", ("VIN",), 22310, 0.02),
        (NANO, "iio", ("POM_5V_IN",), 2200, 0.02),
        (TX2, "iio", ("VDD_IN",), 3056, 0.02),
        (XAVIER, "iio", ("GPU", "CPU", "SOC", "CV", "VDDRQ", "SYS5V"), 3265, 0.02),
    ],
    ids=["orin-nano", "agx-orin", "thor", "nano", "tx2", "xavier"],
)
def test_the_boards_whole_power_is_read_from_its_sensors(
    tmp_path: Path, files: dict[str, object], kind: str, rails: tuple[str, ...], milliwatts: float, interval_s: float
) -> None:
    write(tmp_path, files)
    source, reason = find_power_source(str(tmp_path))
    assert source is not None, reason
    assert (source.kind, source.rails, source.interval_s) == (kind, rails, interval_s)
    reader = source.open()
    assert reader.read() == pytest.approx(milliwatts)
    reader.close()
    assert source.to_json() == {"source": kind, "rails": list(rails), "interval_ms": 1000 * interval_s}


def test_a_rail_that_goes_away_is_named(tmp_path: Path) -> None:
    write(tmp_path, NANO)
    source, _ = find_power_source(str(tmp_path))
    assert source is not None
    reader = source.open()
    (tmp_path / "sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0/in_power0_input").unlink()
    with pytest.raises(CoopexportError, match=r"POM_5V_IN cannot be read any more \(/sys/bus/i2c/.*in_power0_input\)"):
        reader.read()


@pytest.mark.parametrize(
    ("board", "rails", "milliwatts"),
    [
        (NANO_4_6_1, ("POM_5V_IN",), None),
        (ORIN_NANO_6_2, ("VDD_IN",), 4872),
        (AGX_ORIN_7_2, ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0", "VDDQ_VDD2_1V8AO"), 3183 + 795 + 4032 + 404),
        (THOR_7_2, ("VIN",), 22310),
    ],
    ids=lambda value: getattr(value, "target", ""),
)
def test_without_sensors_tegrastats_tells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, board: FakeBoard, rails: tuple[str, ...], milliwatts: float | None
) -> None:
    device = make_device(board, tmp_path / "device")
    monkeypatch.setenv("PATH", device.environment["PATH"])
    source, reason = find_power_source(str(device.root))
    assert source is not None, reason
    assert (source.kind, source.rails, source.waits) == ("tegrastats", rails, True)
    reader = source.open()
    for _ in range(2):
        found = reader.read()
        assert found > 0 if milliwatts is None else found == milliwatts
    reader.close()


def test_tegrastats_that_ends_is_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    device = make_device(ORIN_NANO_6_2, tmp_path / "device")
    monkeypatch.setenv("PATH", device.environment["PATH"])
    source, _ = find_power_source(str(device.root))
    assert source is not None
    (device.root / "usr/bin/tegrastats").write_text("#!/bin/sh\necho nonsense\n")
    reader = source.open()
    with pytest.raises(CoopexportError, match="tegrastats says something else: nonsense"):
        reader.read()
    reader.close()


def test_a_machine_that_shows_no_power_says_where_it_was_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    source, reason = find_power_source(str(tmp_path), with_processor=True)
    assert source is None
    said = "no rail is in /sys/class/hwmon or below iio; there is no tegrastats; no processor's energy is readable"
    assert reason.startswith(said)


def test_a_pcs_processors_tell_only_where_that_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for number, name in enumerate(("package-0", "package-1", "psys")):
        folder = f"/sys/class/powercap/intel-rapl:{number}"
        write(tmp_path, {f"{folder}/name": name, f"{folder}/energy_uj": 5, f"{folder}/max_energy_range_uj": 999_999})
    assert find_power_source(str(tmp_path))[0] is None
    source, _ = find_power_source(str(tmp_path), with_processor=True)
    assert source is not None
    assert (source.kind, source.rails) == ("rapl", ("package-0", "package-1"))


def test_energy_counters_become_power_also_where_they_start_again(tmp_path: Path) -> None:
    counters = [Counter("package-0", "/a", 999_999), Counter("package-1", "/b", 999_999)]
    now = [100.0]
    reader = RaplReader(str(tmp_path), counters, clock=lambda: now[0])
    write(tmp_path, {"/a": 999_000, "/b": 10_000})
    assert reader.read() == 0.0
    now[0] += 0.5
    write(tmp_path, {"/a": 4_000, "/b": 15_000})  # 5,000 microjoules each in half a second
    assert reader.read() == pytest.approx(20.0)
    now[0] += 0.5
    (tmp_path / "b").unlink()
    with pytest.raises(CoopexportError, match="package-1 cannot be read any more"):
        reader.read()
