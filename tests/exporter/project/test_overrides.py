"""Values of a request take the place of the project's, and keep its rules."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.project.overrides import SettingError, overridden
from exporter.project.settings import BenchSection, PruneSection, SelectSection, TrainingSection
from jetson.errors import CoopexportError


@given(
    st.builds(BenchSection, rounds=st.integers(8, 500), warm_up=st.integers(1, 50)),
    st.none() | st.integers(8, 500),
    st.none() | st.integers(1, 50),
)
def test_what_is_given_counts_and_none_leaves_the_section(
    section: BenchSection, rounds: int | None, warm_up: int | None
) -> None:
    found = overridden(section, {"rounds": rounds, "warm_up": warm_up})
    assert found.rounds == (section.rounds if rounds is None else rounds)
    assert found.warm_up == (section.warm_up if warm_up is None else warm_up)


def test_zero_is_a_value() -> None:
    assert overridden(SelectSection(), {"maximum_loss_points": 0.0}).maximum_loss_points == 0


def test_a_value_that_is_not_allowed_names_its_field() -> None:
    with pytest.raises(CoopexportError, match=r"^device_slowdown: Input should be greater than 0$"):
        overridden(SelectSection(), {"device_slowdown": -1.0})
    with pytest.raises(CoopexportError, match=r"^goodput_bps: .*the goodput of slow must be a positive number"):
        overridden(SelectSection(), {"goodput_bps": {"slow": 0.0}})


def test_one_request_serves_two_sections() -> None:
    request = {"widths": 2, "seed": 7, "layers": ("conv1",)}
    assert overridden(PruneSection(), request) == PruneSection(widths=2)
    assert overridden(TrainingSection(), request).seed == 7


def test_the_error_keeps_key_and_problem_apart() -> None:
    with pytest.raises(SettingError) as one:
        overridden(PruneSection(), {"removed_share": 2.0})
    assert (one.value.key, one.value.problem) == ("removed_share", "Input should be less than 1")
    with pytest.raises(SettingError, match=r"^rounds needs macs_reduction") as several:
        overridden(PruneSection(), {"rounds": 4})
    assert several.value.key == ""
    assert str(several.value) == several.value.problem
