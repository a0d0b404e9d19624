"""The error that users see is one line, whatever went into it."""

import pickle

from jetson.errors import CoopexportError, one_line


def test_line_breaks_and_runs_of_blanks_become_single_spaces():
    assert one_line("  first\n\tsecond \r\n third ") == "first second third"
    assert str(CoopexportError("first\nsecond")) == "first second"


def test_anything_can_be_made_one_line():
    assert one_line(ValueError("a\nb")) == "a b"
    assert one_line(None) == "None"


def test_nothing_that_a_terminal_obeys_is_left():
    assert one_line("a\x1b]0;title\x07b\x1b[2Jc\x9bd\u202ee") == "a ]0;title b [2Jc d e"
    assert one_line("Gerät 日本 \u00b5s") == "Gerät 日本 \u00b5s"


def test_the_error_survives_the_way_out_of_another_process():
    assert str(pickle.loads(pickle.dumps(CoopexportError("what, where, how")))) == "what, where, how"
