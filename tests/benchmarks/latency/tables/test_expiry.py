"""Why a row no longer counts is named, and the number that finds rows taken alike agrees with it."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.latency.tables.expiry import Provenance, expiry_reason, setting_of

ONE = Provenance("Cortex-A57", 1, "tensorrt", "8.2.1.9", "MAXN", "32.7", "32.7.1", "graph")
_values = st.one_of(st.none(), st.sampled_from(["a", "b"]))
_provenances = st.builds(Provenance, _values, st.sampled_from([None, 1, 2]), *[_values] * 6)


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("processor", "Cortex-A78AE", "processor was Cortex-A57, is Cortex-A78AE"),
        ("threads", 4, "threads was 1, is 4"),
        ("backend", "onnxruntime", "backend was tensorrt, is onnxruntime"),
        ("backend_version", "10.3", "backend version was 8.2.1.9, is 10.3"),
        ("power_mode", "5W", "power mode was MAXN, is 5W"),
        ("power_mode", None, "power mode was MAXN, is not recorded"),
        ("driver", "35.1", "driver was 32.7, is 35.1"),
        ("l4t", "35.1", "L4T was 32.7.1, is 35.1"),
        ("source_sha256", "another", "measured on another graph"),
        ("source_sha256", None, None),  # of a current one: not compared
    ],
)
def test_what_changed_is_named(name: str, value: str | None, reason: str | None) -> None:
    assert expiry_reason(ONE, replace(ONE, **{name: value})) == reason


def test_every_field_counts() -> None:
    names = {field.name for field in fields(Provenance)}
    changed = [replace(ONE, **{name: "another"}) for name in names]
    assert all(expiry_reason(ONE, now) for now in changed)
    assert len({setting_of(now) for now in changed}) == len(names)  # one of them, the graph's, is ONE's


def test_several_changes_are_all_named() -> None:
    now = replace(ONE, power_mode="5W", source_sha256="another")
    assert expiry_reason(ONE, now) == "measured on another graph; power mode was MAXN, is 5W"


@given(_provenances, _provenances)
def test_settings_agree_exactly_where_nothing_expires(then: Provenance, now: Provenance) -> None:
    alike = expiry_reason(then, replace(now, source_sha256=None)) is None
    assert alike == (setting_of(then) == setting_of(now))
    assert 0 <= setting_of(then) < 1 << 63
    assert expiry_reason(then, then) is None
