"""Which training a search does next, and what it keeps."""

from __future__ import annotations

import pytest

from exporter.bottleneck.design import BottleneckDesign
from exporter.bottleneck.insert import Place
from exporter.bottleneck.search import changed, first_design, front, roomier
from exporter.bottleneck.training import Task
from exporter.bottleneck.trials import Trial
from exporter.project.settings import BottleneckSection
from jetson.errors import UnsupportedError

SETTINGS = BottleneckSection()
MAP = Place("pool1", "pool1", (16, 16, 16), rectified=True)
VECTOR = Place("fc1", "fc1", (64,), rectified=False)


def trial(number: int, estimated_bytes: float, score: float) -> Trial:
    task = Task(BottleneckDesign(2, 4, 2), 0.0, 1.0, 0)
    return Trial(number, task, str(number), score, estimated_bytes, 1, 1.0, {})


@pytest.mark.parametrize(
    ("place", "settings", "design"),
    [
        (MAP, {}, BottleneckDesign(2, 4, 3)),
        (MAP, {"channels": 3, "bits": 2, "stride": 4}, BottleneckDesign(4, 3, 2)),
        (VECTOR, {}, BottleneckDesign(1, 16, 3)),
        (Place("pool5", "pool5", (12, 1, 1), rectified=True), {"stride": 4}, BottleneckDesign(1, 3, 3)),
        (Place("pool4", "pool4", (12, 3, 9), rectified=True), {"stride": 4}, BottleneckDesign(2, 3, 3)),
    ],
)
def test_a_search_begins_with_what_the_feature_has_room_for(
    place: Place, settings: dict[str, int], design: BottleneckDesign
) -> None:
    assert first_design(SETTINGS.model_copy(update=settings), place) == design


def test_a_feature_with_no_room_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="1x1x1 to 1x1x1 is no reduction"):
        first_design(SETTINGS, Place("last", "last", (1, 1, 1), rectified=False))


def test_each_change_makes_one_thing_smaller_until_there_is_no_less() -> None:
    task = Task(BottleneckDesign(2, 4, 2), 0.0, 6.0, 5)
    assert changed(task, "rate", SETTINGS, MAP) == Task(task.design, SETTINGS.rate_weight, SETTINGS.epochs, 6)
    dearer = changed(Task(task.design, 1e-3, 3.0, 6), "rate", SETTINGS, MAP)
    assert dearer is not None and dearer.rate_weight == 2e-3
    for move, design in (
        ("channels", BottleneckDesign(2, 2, 2)),
        ("bits", BottleneckDesign(2, 4, 1)),
        ("stride", BottleneckDesign(4, 4, 2)),
    ):
        assert changed(task, move, SETTINGS, MAP) == Task(design, 0.0, SETTINGS.epochs, 6)
    least = Task(BottleneckDesign(4, 1, 1), 0.0, 6.0, 5)
    assert all(changed(least, move, SETTINGS, MAP) is None for move in ("channels", "bits", "stride"))
    assert changed(Task(BottleneckDesign(1, 8, 2), 0.0, 6.0, 5), "stride", SETTINGS, VECTOR) is None
    small = Place("pool3", "pool3", (16, 3, 3), rectified=True)
    assert changed(task, "stride", SETTINGS, small) is None


def test_what_loses_too_much_gets_more_room_until_it_is_no_reduction() -> None:
    design: BottleneckDesign | None = BottleneckDesign(2, 2, 2)
    seen = []
    while design is not None:
        seen.append(design)
        design = roomier(design, MAP)
    assert [(one.stride, one.channels, one.bits) for one in seen[:5]] == [
        (2, 2, 2), (2, 2, 3), (2, 2, 4), (2, 4, 4), (2, 8, 4)
    ]  # fmt: skip
    assert seen[-1] == BottleneckDesign(2, 16, 4)  # at stride 1 as much would cross as before
    assert roomier(BottleneckDesign(2, 9, 4), MAP) == BottleneckDesign(1, 9, 4)


def test_the_front_holds_what_no_other_beats() -> None:
    trials = [trial(1, 50, 0.98), trial(2, 40, 0.985), trial(3, 30, 0.97), trial(4, 30, 0.96), trial(5, 20, 0.97)]
    assert [one.number for one in front(trials)] == [2, 5]
    assert front([]) == ()
