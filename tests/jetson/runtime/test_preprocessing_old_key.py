"""Declarations that were written before `std` had its name: read as they were meant, and never beside the new one."""

import json

import pytest

from jetson.errors import CoopexportError
from jetson.runtime.preprocessing import Preprocessing, from_json, to_json


def test_the_old_key_is_read_as_the_new_one():
    old = json.loads('{"scale": 0.5, "mean": [0.1, 0.2, 0.3], "deviation": [0.4, 0.5, 0.6]}')
    assert from_json(old) == Preprocessing(scale=0.5, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
    assert "deviation" in old, "the caller's object stays as it is"


def test_what_is_written_has_the_new_key_alone():
    written = to_json(from_json({"deviation": [0.25]}))
    assert written["std"] == [0.25]
    assert "deviation" not in written


def test_both_keys_at_once_are_refused_in_one_line():
    with pytest.raises(CoopexportError, match=r"^preprocessing has std and deviation, .*; leave out deviation$"):
        from_json({"std": [0.25], "deviation": [0.25]})


def test_a_wrong_value_under_the_old_key_is_refused_by_the_new_name():
    with pytest.raises(CoopexportError, match=r"^preprocessing\.std holds 0 "):
        from_json({"deviation": [0]})
