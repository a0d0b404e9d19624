"""Latencies are taken in turns, once the warm-up is over, and a failure is never a number."""

import pytest

from jetson.runtime.sampling import WarmUp, fixed, sample_interleaved, until_steady
from jetson.runtime.steadiness import WINDOW


class Clock:
    """A clock that only moves when an item moves it: `now`, in seconds."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now

    def item(self, name, durations_ms):
        """Return an item that takes what `durations_ms`, a function of the number of its call, says."""
        calls = []

        def run():
            calls.append(name)
            self.now += durations_ms(len(calls) - 1) / 1000

        return name, run


@pytest.fixture
def clock():
    return Clock()


def test_all_items_run_once_per_round_in_the_order_given():
    calls = []
    items = [(name, lambda name=name: calls.append(name)) for name in "abc"]
    taken = sample_interleaved(items, rounds=2, warm_up=fixed(1))
    assert calls == list("abc") * 3
    assert {name: len(samples) for name, samples in taken.samples_ms.items()} == {"a": 2, "b": 2, "c": 2}
    assert list(taken.samples_ms) == ["a", "b", "c"]
    assert taken.failures == {}


def test_samples_are_milliseconds_and_the_warm_up_is_not_kept(clock):
    durations_ms = [9000.0, 8000.0, 1.0, 2.0, 250.0]
    taken = sample_interleaved([clock.item("a", durations_ms.__getitem__)], rounds=3, warm_up=fixed(2), clock=clock)
    assert taken.samples_ms["a"] == pytest.approx([1.0, 2.0, 250.0])
    assert (taken.warm_up_rounds, taken.unsteady, taken.steady) == (2, None, None)


def test_what_happens_between_rounds_is_not_measured(clock):
    told = []

    def on_round(done, rounds):
        told.append((done, rounds))
        clock.now += 1000.0

    taken = sample_interleaved([("a", lambda: None)], rounds=2, warm_up=fixed(1), on_round=on_round, clock=clock)
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert taken.samples_ms["a"] == [0.0, 0.0]


def test_a_warm_up_ends_with_the_least_rounds_where_everything_is_steady(clock):
    items = [clock.item("a", lambda call: 3.0 + call % 2), clock.item("b", lambda call: 1.0)]
    taken = sample_interleaved(items, rounds=4, warm_up=until_steady(15), clock=clock)
    assert (taken.warm_up_rounds, taken.unsteady, taken.steady) == (15, {}, True)
    taken = sample_interleaved(items, rounds=4, warm_up=until_steady(1), clock=clock)
    assert taken.warm_up_rounds == WINDOW, "fewer samples cannot show a trend"


def test_a_warm_up_goes_on_while_an_item_still_gets_faster(clock):
    told = []
    items = [clock.item("slow start", lambda call: 1.0 + 4.0 * 0.8**call), clock.item("steady", lambda call: 1.0)]
    taken = sample_interleaved(
        items, rounds=5, warm_up=until_steady(10), on_round=lambda *one: told.append(one), clock=clock
    )
    # The test sees only what is above 2 % of the median: 4 x 0.8^n is below that from n = 25 on.
    assert 20 < taken.warm_up_rounds < 35
    assert taken.steady is True
    assert max(taken.samples_ms["slow start"]) < 1.05
    assert [done for done, _ in told] == list(range(1, taken.warm_up_rounds + 6))
    assert all(done + 5 <= rounds for done, rounds in told[: taken.warm_up_rounds])
    assert told[-1] == (taken.warm_up_rounds + 5,) * 2


def test_what_does_not_become_steady_is_measured_all_the_same_and_named(clock):
    items = [clock.item("hotter", lambda call: 1.0 + 0.05 * call), clock.item("steady", lambda call: 2.0)]
    taken = sample_interleaved(items, rounds=6, warm_up=until_steady(10), clock=clock)
    assert taken.warm_up_rounds == 50
    assert taken.steady is False
    # Medians of rounds 41 to 45 and 46 to 50: 3.1 and 3.35.
    assert taken.unsteady == {"hotter": "in the last 10 rounds of the warm-up it still got 8 % slower"}
    assert [len(samples) for samples in taken.samples_ms.values()] == [6, 6]


def test_a_warm_up_that_is_too_short_to_tell_says_so(clock):
    taken = sample_interleaved([clock.item("a", lambda call: 9.0 - call)], 2, WarmUp(3, WINDOW - 1), clock=clock)
    assert (taken.warm_up_rounds, taken.steady) == (WINDOW - 1, None)


@pytest.mark.parametrize("fails_in_round", [0, 1, 4])
def test_a_failing_item_has_a_reason_and_no_samples_while_the_others_go_on(fails_in_round):
    calls = {"good": 0, "bad": 0}

    def good():
        calls["good"] += 1

    def bad():
        calls["bad"] += 1
        if calls["bad"] == fails_in_round + 1:
            raise RuntimeError("out of memory\n  on device 0")

    taken = sample_interleaved([("bad", bad), ("good", good)], rounds=4, warm_up=fixed(1))
    assert taken.failures == {"bad": "RuntimeError: out of memory on device 0"}
    assert list(taken.samples_ms) == ["good"]
    assert len(taken.samples_ms["good"]) == 4
    assert calls == {"good": 5, "bad": fails_in_round + 1}, "what failed once is not run again"


@pytest.mark.parametrize("fails_in_round", [3, WINDOW, 14])
def test_an_item_that_fails_while_it_is_not_steady_keeps_nobody_waiting(clock, fails_in_round):
    def duration_ms(call):
        if call == fails_in_round:
            raise MemoryError
        return 100.0 - call

    items = [clock.item("bad", duration_ms), clock.item("good", lambda call: 1.0)]
    taken = sample_interleaved(items, rounds=2, warm_up=until_steady(5), clock=clock)
    assert taken.failures == {"bad": "MemoryError:"}
    assert (taken.steady, list(taken.samples_ms)) == (True, ["good"])
    assert taken.warm_up_rounds == max(WINDOW, fails_in_round + 1)


def test_a_chain_runs_untimed_before_it_is_timed(clock):
    calls = []

    def item(name):
        def run():
            # Every third run is the timed one.
            calls.append(name)
            clock.now += 0.001 if calls.count(name) % 3 == 0 else 0.5

        return name, run

    items = [item(name) for name in ("a head", "a tail", "b head")]
    taken = sample_interleaved(items, rounds=2, warm_up=fixed(1), chain_of=lambda name: name[0], clock=clock)
    assert calls == (["a head", "a tail"] * 3 + ["b head"] * 3) * 3
    assert taken.failures == {}
    assert taken.samples_ms == {name: pytest.approx([1.0, 1.0]) for name in ("a head", "a tail", "b head")}


def test_an_item_that_fails_untimed_is_not_timed():
    calls = []

    def bad():
        calls.append("bad")
        raise RuntimeError("no")

    items = [("bad", bad), ("good", lambda: calls.append("good"))]
    taken = sample_interleaved(items, rounds=1, warm_up=fixed(0), chain_of=lambda name: 0)
    assert calls == ["bad", "good", "good", "good"]
    assert (list(taken.samples_ms), taken.failures) == (["good"], {"bad": "RuntimeError: no"})


def test_a_failure_without_words_still_names_its_type():
    def bad():
        raise KeyError

    taken = sample_interleaved([("bad", bad)], rounds=1, warm_up=fixed(0))
    assert (taken.samples_ms, taken.failures) == ({}, {"bad": "KeyError:"})


def test_an_interruption_by_the_user_is_no_failure_of_an_item():
    def interrupted():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sample_interleaved([("a", interrupted)], rounds=1, warm_up=fixed(0))


def test_two_items_of_one_name_are_refused_before_anything_runs():
    def never():
        raise AssertionError("ran")

    with pytest.raises(ValueError, match="share a name: a, a"):
        sample_interleaved([("a", never), ("a", never)], rounds=1, warm_up=fixed(0))
