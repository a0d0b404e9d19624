"""What is left out, and why; and what is said where a bound leaves nothing."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from benchmarks.selection.selector import INPUT, OUTPUT, Candidate, Constraints, Options, Selection, select
from jetson.errors import InputError

LINKS = {"4G": 5.85e6}
SPLIT = Candidate("pruned", "conv4_1", "8-bit raw", 100.0, 4.0, 1.0, 0.98, 0.3)
EDGE = Candidate("pruned", INPUT, "raw", 3000.0, 0.1, 2.0, 0.98, 0.2)
DEVICE = Candidate("original", OUTPUT, "nothing", 0.0, 40.0, 0.0, 0.99, 0.0)
OTHER = replace(SPLIT, variant="conv4_1-8", precision="fp16", batch=4)
ALL = [SPLIT, EDGE, DEVICE, OTHER]


def selected(candidates: list[Candidate] = ALL, maximum_loss_points: float = 1.0, **constraints: Any) -> Selection:
    return select(candidates, LINKS, maximum_loss_points, Options(constraints=Constraints(**constraints)))


def reasons(**constraints: Any) -> list[str]:
    return [item.reason for item in selected(**constraints).candidates]


def test_without_upload_nothing_is_cut_at_the_input() -> None:
    assert reasons(upload=False) == ["", "sends the input, which may not be uploaded", "", ""]


def test_only_one_precision_or_batch_is_allowed() -> None:
    assert reasons(precisions=("fp16",))[0] == "is fp32, allowed is fp16"
    assert reasons(precisions=("fp32", "int8")) == ["", "", "", "is fp16, allowed is fp32, int8"]
    assert reasons(batch=1) == ["", "", "", "is for batches of 4, wanted are 1"]


def test_variants_are_cut_only_where_their_pattern_says() -> None:
    assert reasons(cuts={"conv*": ["conv4*"]}) == ["", "", "", ""]
    said = "pruned may be cut at input only"
    assert reasons(cuts={"pruned": [INPUT]}) == [said, "", "", ""]
    # Of several patterns that fit a variant, any layer.
    assert reasons(cuts={"pruned": [INPUT], "p*": ["conv?_1"]}) == ["", "", "", ""]


def test_a_pattern_that_fits_nothing_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(InputError, match=r'cuts: "prund" fits no variant; did you mean pruned\?'):
        selected(cuts={"prund": [INPUT]})
    with pytest.raises(InputError, match=r'cuts: "conv5_1" fits no layer of pruned; did you mean conv4_1\?'):
        selected(cuts={"pruned": ["conv5_1"]})


@pytest.mark.parametrize(
    ("field", "bound", "unit"),
    [
        ("device_memory_bytes", "maximum_device_memory_bytes", "bytes of device memory"),
        ("device_mj", "maximum_device_mj", "mJ on the device"),
    ],
)
def test_what_was_not_measured_keeps_no_bound(field: str, bound: str, unit: str) -> None:
    some = [
        replace(SPLIT, **{field: 1000.0}),
        replace(EDGE, **{field: 2000.0}),
        DEVICE,
        replace(OTHER, **{field: math.nan}),
    ]
    found = [item.reason for item in selected(some, **{bound: 1000}).candidates]
    not_measured = f"{unit} not measured, the limit is 1000"
    assert found == ["", f"takes 2000 {unit}, the limit is 1000", not_measured, not_measured]
    with pytest.raises(InputError) as caught:
        selected(some, **{bound: 999})
    nearest = "pruned, cut after conv4_1 (8-bit raw)"
    assert str(caught.value) == f"no candidate keeps 999 {unit}: the nearest, {nearest}, takes 1000"
    with pytest.raises(InputError, match=f"no candidate keeps 999 {unit}: that was not measured of any"):
        selected(ALL, **{bound: 999})


def test_a_loss_that_none_keeps_names_the_nearest() -> None:
    with pytest.raises(InputError) as caught:
        selected([SPLIT, replace(EDGE, loss_points=0.62), replace(DEVICE, reason="stale")], 0.25)
    assert str(caught.value) == (
        "no candidate keeps 0.25 points: the nearest, pruned, cut after conv4_1 (8-bit raw), loses 0.30; others are "
        "left out: stale"
    )


def test_bounds_that_are_kept_apart_but_not_together_say_so() -> None:
    some = [replace(SPLIT, device_mj=5.0, loss_points=3.0), replace(EDGE, device_mj=50.0)]
    with pytest.raises(InputError) as caught:
        selected(some, maximum_device_mj=10.0)
    assert str(caught.value) == (
        "no candidate keeps all bounds at once: loses 3.00 points, the limit is 1; takes 50 mJ on the device, the "
        "limit is 10"
    )


def test_a_latency_bound_that_none_keeps_names_the_nearest_and_the_goodput() -> None:
    for links, where in ((LINKS, "at 5.85 Mbit/s"), ({**LINKS, "3G": 1.1e6}, r"at 5\.85 Mbit/s \(4G\)")):
        with pytest.raises(
            InputError, match=rf"no candidate takes at most 5 ms {where}: the nearest, pruned, cut .*takes"
        ):
            select(ALL, links, 1.0, Options(maximum_latency_ms=5.0))
    # Kept on one link, it is a plan: the other link says by how much it is not kept.
    result = select(ALL, {"slow": 1e5, "fast": 1e9}, 1.0, Options(maximum_latency_ms=5.05))
    slow, fast = result.links
    assert (fast.over_ms, result.candidates[fast.candidate]) == (0.0, EDGE)
    assert slow.over_ms == pytest.approx(5.0 + 8000 * 100 / 1e5 - 5.05)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"device_ms": -1.0}, "device_ms is -1: it cannot be negative"),
        ({"edge_ms": -0.5}, "edge_ms is -0.5: it cannot be negative"),
        ({"payload_bytes": -3.0}, "payload_bytes is -3: it cannot be negative"),
        ({"wire_bytes": -3.0}, "wire_bytes is -3: it cannot be negative"),
        ({"wire_bytes": math.inf}, "not measured"),
        ({"payload_bytes": 1e308}, "not measured"),  # eight bits each, it is infinite
        ({"device_ms": 1e308, "edge_ms": 1e308}, "not measured"),
    ],
)
def test_a_number_that_is_none_leaves_a_candidate_out(changes: dict[str, float], said: str) -> None:
    broken = replace(SPLIT, **changes)
    assert selected([broken, DEVICE]).candidates[0].reason == said
    with pytest.raises(InputError, match="no candidate is left to choose from: " + said):
        selected([broken])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"maximum_latency_ms": 0.0}, "maximum_latency_ms is 0"),
        ({"maximum_latency_ms": math.nan}, "maximum_latency_ms is nan"),
        ({"round_trip_ms": -1.0}, "round_trip_ms is -1"),
        ({"round_trip_ms": math.inf}, "round_trip_ms is inf"),
        ({"hysteresis_percent": math.nan}, "hysteresis_percent is nan"),
        ({"device_loads": {"busy": 0.0}}, "device_loads: the factor of busy is 0"),
        ({"edge_loads": {"idle": 2.0}}, "edge_loads: idle is the load that times are measured at"),
        ({"goodput_samples_bps": (1e6, 0.0)}, "sample 1 of the goodput is 0"),
        ({"goodput_samples_bps": (1e6,), "latency_percentile": 0.0}, "percentile 0 is not"),
        ({"constraints": Constraints(maximum_device_mj=-1.0)}, "maximum_device_mj is -1"),
    ],
)
def test_a_setting_that_is_no_number_to_use_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        select(ALL, LINKS, 1.0, Options(**options))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("goodput", [0, -1.0, math.nan, math.inf])
def test_a_goodput_that_is_none_is_refused_by_the_name_of_its_link(goodput: float) -> None:
    with pytest.raises(InputError, match=r"the goodput of mine is .*: it must be a positive number of bits per second"):
        select(ALL, {"mine": goodput}, 1.0)


def test_many_reasons_are_cut_short() -> None:
    with pytest.raises(InputError, match="left to choose from: stale 0; stale 1; stale 2; and 7 more"):
        selected([replace(SPLIT, reason=f"stale {number}") for number in range(10)])
