"""The error that users see is one line, whatever went into it."""

import pickle

from jetson.errors import CoopexportError, one_line


def test_line_breaks_and_runs_of_blanks_become_single_spaces():
    assert one_line("  first\n\tsecond \r\n third ") == "first second third"
    assert str(CoopexportError("first\nsecond")) == "first second"


def test_anything_can_be_made_one_line():
    assert one_line(ValueError("a\nb")) == "a b"
    assert one_line(None) == "None"


def test_the_error_survives_the_way_out_of_another_process():
    assert str(pickle.loads(pickle.dumps(CoopexportError("what, where, how")))) == "what, where, how"
