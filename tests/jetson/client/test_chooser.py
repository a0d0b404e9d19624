"""The choice: the plan's model at the link's own round trip, with its hysteresis, of what can be carried out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jetson.client.chooser import Chooser
from jetson.client.link_estimate import LinkState
from jetson.runtime.partition_policy import PartitionPolicy


def candidate(device_ms, edge_ms, wire_bytes, loss_points=0.0):
    return {
        "device_ms": device_ms, "edge_ms": edge_ms, "wire_bytes": wire_bytes, "payload_bytes": wire_bytes,
        "loss_points": loss_points,
    }  # fmt: skip


def policy(candidates, percent=0.0, maximum_ms=None):
    bound = {} if maximum_ms is None else {"maximum_latency_ms": maximum_ms}
    return PartitionPolicy([], candidates, {"hysteresis": {"percent": percent}, "bound": bound}, [])


THREE = [candidate(30.0, 0.0, 0), candidate(5.0, 2.0, 500), candidate(0.5, 6.0, 12_000)]


def link(goodput_bps, round_trip_ms=0.0, low=0.9, high=1.1):
    return LinkState(goodput_bps, low * goodput_bps, high * goodput_bps, round_trip_ms)


def latency_ms(item, state):
    crossing = item["wire_bytes"]
    on_link = state.round_trip_ms + 8000 * crossing / state.goodput_bps if crossing else 0.0
    return item["device_ms"] + on_link + item["edge_ms"]


@given(
    st.lists(st.builds(candidate, st.floats(0, 90), st.floats(0, 90), st.sampled_from([0, 60, 900, 20_000])),
             min_size=1, max_size=8),
    st.lists(st.builds(link, st.floats(1e4, 1e9), st.floats(0, 100)), min_size=1, max_size=8), st.floats(0, 50),
)  # fmt: skip
def test_the_choice_is_never_slower_than_the_best_by_more_than_the_margin(candidates, links, percent):
    chooser = Chooser(policy(candidates, percent), range(len(candidates)))
    for state in links:
        chosen = latency_ms(candidates[chooser.choose(state)], state)
        best = min(latency_ms(item, state) for item in candidates)
        assert chosen <= best * (1 + percent / 100) + 1e-9


def test_the_round_trip_counts_for_what_crosses():
    chooser = Chooser(policy(THREE), range(3))
    assert chooser.choose(link(2e7)) == 1
    assert chooser.choose(link(2e7, round_trip_ms=40.0)) == 0


def test_what_cannot_be_carried_out_is_not_chosen():
    assert Chooser(policy(THREE), [0, 2]).choose(link(2e7)) == 2
    assert Chooser(policy(THREE), []).choose(link(2e7)) is None


def test_a_goodput_that_moves_about_a_switch_point_does_not_make_the_choice_flap():
    chooser = Chooser(policy(THREE, percent=10.0), range(3))
    # 5 + 2 + 4/g = 0.5 + 6 + 96/g in ms and Mbit/s: at 184 Mbit/s.
    chosen = [chooser.choose(link(goodput)) for goodput in (170e6, 190e6, 180e6, 195e6, 175e6) * 4]
    assert len(set(chosen)) == 1


def test_with_a_bound_on_latency_the_most_accurate_that_keeps_it_is_chosen():
    candidates = [candidate(30.0, 0.0, 0, 0.0), candidate(5.0, 2.0, 500, 0.8), candidate(0.5, 6.0, 12_000, 0.1)]
    chooser = Chooser(policy(candidates, maximum_ms=20.0), range(3))
    assert chooser.choose(link(1e8)) == 2
    assert chooser.choose(link(1e6)) == 1
    assert Chooser(policy(candidates, maximum_ms=40.0), range(3)).choose(link(1e6)) == 0
    assert Chooser(policy(candidates, maximum_ms=1.0), range(3)).choose(link(1e6)) == 1  # none keeps it: the fastest


@pytest.mark.parametrize(
    ("state", "doubtful"), [(link(2e7), False), (link(2e7, low=0.001), True), (link(2e7, high=100.0), True)]
)
def test_a_goodput_that_may_lie_behind_a_switch_point_is_doubtful(state, doubtful):
    chooser = Chooser(policy(THREE), range(3))
    assert chooser.is_doubtful(state)  # nothing was chosen yet
    chooser.choose(state)
    assert chooser.is_doubtful(state) is doubtful
