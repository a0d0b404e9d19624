"""A selection for another slowdown is the one that the project would get with it."""

from __future__ import annotations

import pytest
from example_selection import example_selection

from benchmarks.selection.project_selection import other_slowdowns


@pytest.mark.parametrize("slowdown", [1.0, 10.0])
def test_other_slowdowns_are_what_a_selection_with_them_gives(slowdown: float) -> None:
    found = dict(other_slowdowns(example_selection()))
    expected = example_selection(settings={"device_slowdown": slowdown}).selection
    for scaled, direct in zip(found[slowdown].links, expected.links, strict=True):
        assert scaled.candidate == direct.candidate
        assert scaled.latency_ms == pytest.approx(direct.latency_ms)
    assert found[5.0].links == example_selection().selection.links
