"""Latencies are taken in turns, without the warm-up, and a failure is never a number."""

import time

import pytest

from jetson.runtime.sampling import sample_interleaved


@pytest.fixture
def clock(monkeypatch):
    """A clock that only moves when an item moves it: `clock.now`, in seconds."""

    class Clock:
        now = 100.0

    monkeypatch.setattr(time, "perf_counter", lambda: Clock.now)
    return Clock


def test_all_items_run_once_per_round_in_the_order_given():
    calls = []
    items = [(name, lambda name=name: calls.append(name)) for name in "abc"]
    samples, failures = sample_interleaved(items, rounds=2, warm_up=1)
    assert calls == list("abc") * 3
    assert {name: len(taken) for name, taken in samples.items()} == {"a": 2, "b": 2, "c": 2}
    assert list(samples) == ["a", "b", "c"]
    assert failures == {}


def test_samples_are_milliseconds_and_the_warm_up_is_not_kept(clock):
    durations_s = iter([9.0, 8.0, 0.001, 0.002, 0.25])

    def run():
        clock.now += next(durations_s)

    samples, _ = sample_interleaved([("a", run)], rounds=3, warm_up=2)
    assert samples["a"] == pytest.approx([1.0, 2.0, 250.0])


def test_what_happens_between_rounds_is_not_measured(clock):
    rounds = []

    def on_round(index):
        rounds.append(index)
        clock.now += 1000.0

    samples, _ = sample_interleaved([("a", lambda: None)], rounds=2, warm_up=1, on_round=on_round)
    assert rounds == [0, 1, 2]
    assert samples["a"] == [0.0, 0.0]


@pytest.mark.parametrize("fails_in_round", [0, 1, 4])
def test_a_failing_item_has_a_reason_and_no_samples_while_the_others_go_on(fails_in_round):
    calls = {"good": 0, "bad": 0}

    def good():
        calls["good"] += 1

    def bad():
        calls["bad"] += 1
        if calls["bad"] == fails_in_round + 1:
            raise RuntimeError("out of memory\n  on device 0")

    samples, failures = sample_interleaved([("bad", bad), ("good", good)], rounds=4, warm_up=1)
    assert failures == {"bad": "RuntimeError: out of memory on device 0"}
    assert list(samples) == ["good"]
    assert len(samples["good"]) == 4
    assert calls == {"good": 5, "bad": fails_in_round + 1}, "what failed once is not run again"


def test_a_chain_runs_untimed_before_it_is_timed(clock):
    calls = []

    def item(name):
        def run():
            # Every third run is the timed one.
            calls.append(name)
            clock.now += 0.001 if calls.count(name) % 3 == 0 else 0.5

        return name, run

    items = [item(name) for name in ("a head", "a tail", "b head")]
    samples, failures = sample_interleaved(items, rounds=2, warm_up=1, chain_of=lambda name: name[0])
    assert calls == (["a head", "a tail"] * 3 + ["b head"] * 3) * 3
    assert failures == {}
    assert samples == {name: pytest.approx([1.0, 1.0]) for name in ("a head", "a tail", "b head")}


def test_an_item_that_fails_untimed_is_not_timed():
    calls = []

    def bad():
        calls.append("bad")
        raise RuntimeError("no")

    items = [("bad", bad), ("good", lambda: calls.append("good"))]
    samples, failures = sample_interleaved(items, rounds=1, warm_up=0, chain_of=lambda name: 0)
    assert calls == ["bad", "good", "good", "good"]
    assert (list(samples), failures) == (["good"], {"bad": "RuntimeError: no"})


def test_a_failure_without_words_still_names_its_type():
    def bad():
        raise KeyError

    assert sample_interleaved([("bad", bad)], rounds=1, warm_up=0) == ({}, {"bad": "KeyError:"})


def test_an_interruption_by_the_user_is_no_failure_of_an_item():
    def interrupted():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sample_interleaved([("a", interrupted)], rounds=1, warm_up=0)


def test_two_items_of_one_name_are_refused_before_anything_runs():
    def never():
        raise AssertionError("ran")

    with pytest.raises(ValueError, match="share a name: a, a"):
        sample_interleaved([("a", never), ("a", never)], rounds=1, warm_up=0)
