"""Samples in turn: each in its place, singly or a batch at a time."""

from __future__ import annotations

from typing import Any

import pytest

from jetson.runtime.cycle import Cycle, calls_in_turn
from jetson.runtime.sampling import UNTIMED_RUNS

_CALLS = UNTIMED_RUNS + 1


def test_an_item_stays_for_a_round() -> None:
    in_turn = Cycle("ab")
    assert "".join(in_turn() for _ in range(3 * _CALLS)) == "a" * _CALLS + "b" * _CALLS + "a" * _CALLS


@pytest.mark.parametrize(
    ("batch", "rounds"),
    [(1, ["A", "B", "C"]), (2, [["A", "B"], ["C", "C"]]), (3, [["A", "B", "C"]]), (5, [["A", "B", "C", "C", "C"]])],
)
def test_a_batch_is_one_call_for_each_of_its_items(batch: int, rounds: list[Any]) -> None:
    asked: list[str] = []

    def upper(text: str) -> str:
        asked.append(text)
        return text.upper()

    run = calls_in_turn(upper, ["a", "b", "c"], batch)
    assert [run() for _ in range(len(rounds) * _CALLS)][::_CALLS] == rounds
    assert len(asked) == batch * len(rounds) * _CALLS
    assert run() == rounds[0]
