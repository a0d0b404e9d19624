"""Another power mode for a while on a fake board: put back whatever ends it, refused where it cannot be had."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from fake_jetson.boards import ORIN_NANO_6_2
from fake_jetson.device import make_device

from jetson.device.power_mode_change import power_mode, power_modes
from jetson.errors import CoopexportError


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    device = make_device(ORIN_NANO_6_2, tmp_path / "device")
    monkeypatch.setenv("PATH", device.environment["PATH"])
    return device.root


def mode_of(root: Path) -> str:
    return (root / "power_mode").read_text().split()[3]


def test_it_is_set_and_put_back(root: Path) -> None:
    with power_mode("maxn_super", str(root)) as before:
        assert (before.name, mode_of(root)) == ("25W", "MAXN_SUPER")
    assert mode_of(root) == "25W"
    assert (root / "power_mode.set").read_text().split() == ["2", "1"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_it_is_put_back_after_an_error_and_an_interruption(root: Path, error: type[BaseException]) -> None:
    with pytest.raises(error), power_mode("MAXN_SUPER", str(root)):
        raise error
    assert mode_of(root) == "25W"


def test_a_mode_that_cannot_be_put_back_is_told_with_the_way_to_do_it(root: Path) -> None:
    with (
        pytest.raises(CoopexportError, match="was not put back: it is MAXN_SUPER, it was 25W; run: sudo nvpmodel -m 1"),
        power_mode("MAXN_SUPER", str(root)),
    ):
        (root / "power_mode.locked").touch()


def test_who_may_not_change_it_is_told_so(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "power_mode.locked").touch()
    with pytest.raises(CoopexportError, match="could not be set: NVPM ERROR"), power_mode("MAXN_SUPER", str(root)):
        pass
    (root / "power_mode.locked").unlink()
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    (root / "usr/bin/sudo").write_text("#!/bin/sh\necho 'sudo: a password is required' >&2\nexit 1\n")
    (root / "usr/bin/sudo").chmod(0o755)
    with (
        pytest.raises(CoopexportError, match=r'"MAXN_SUPER" is root.s to set; run this as root, allow sudo'),
        power_mode("MAXN_SUPER", str(root)),
    ):
        pass
    assert (mode_of(root), (root / "power_mode.set").read_text().split()) == ("25W", ["2", "1"])
    # With the right to it, sudo is what sets it and puts it back.
    (root / "usr/bin/sudo").write_text('#!/bin/sh\n[ "$1" = -n ] && shift && exec "$@"\n')
    with power_mode("MAXN_SUPER", str(root)):
        assert mode_of(root) == "MAXN_SUPER"
    assert mode_of(root) == "25W"


def test_a_mode_whose_number_is_not_told_is_left_alone(root: Path) -> None:
    (root / "power_mode").write_text("NV Power Mode: 25W\n")
    with (
        pytest.raises(CoopexportError, match="does not say by which number to put 25W back; set it by hand"),
        power_mode("MAXN_SUPER", str(root)),
    ):
        pass
    assert not (root / "power_mode.set").exists()


def test_modes_are_read_where_the_configuration_or_the_tool_names_them(tmp_path: Path) -> None:
    tool = tmp_path / "nvpmodel"
    tool.write_text("#!/bin/sh\necho 'POWER_MODEL: ID=0 NAME=MAXN'\necho 'POWER_MODEL: ID=1 NAME=5W'\n")
    tool.chmod(0o755)
    assert power_modes(str(tool), str(tmp_path)) == {"MAXN": 0, "5W": 1}
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/nvpmodel.conf").write_text("< POWER_MODEL ID=3 NAME=MODE_30W_ALL >\nCPU_ONLINE CORE_0 1\n")
    assert power_modes(str(tool), str(tmp_path)) == {"MODE_30W_ALL": 3}
