"""The error that users see is one line, whatever went into it; its class and fields say what kind it is."""

import pickle

import pytest

from jetson import errors
from jetson.errors import (
    ERRORS,
    CoopexportError,
    DamagedFileError,
    DeviceError,
    InputError,
    ParityError,
    StaleError,
    error_of_kind,
    one_line,
    reworded,
)
from jetson.files.json_files import read_json
from jetson.store.location import byte_count
from jetson.wire.symbol_model import model_from_bytes


def test_line_breaks_and_runs_of_blanks_become_single_spaces():
    assert one_line("  first\n\tsecond \r\n third ") == "first second third"
    assert str(CoopexportError("first\nsecond")) == "first second"
    assert str(CoopexportError("first\nsecond", fix="do\nthis")) == "first second; do this"


def test_anything_can_be_made_one_line():
    assert one_line(ValueError("a\nb")) == "a b"
    assert one_line(None) == "None"


def test_nothing_that_a_terminal_obeys_is_left():
    assert one_line("a\x1b]0;title\x07b\x1b[2Jc\x9bd\u202ee") == "a ]0;title b [2Jc d e"
    assert one_line("Gerät 日本 \u00b5s") == "Gerät 日本 \u00b5s"


def test_each_kind_is_a_class_of_its_own_below_the_one_that_is_printed():
    found = [one for one in vars(errors).values() if isinstance(one, type) and one.__module__ == errors.__name__]
    assert set(found) == {CoopexportError, *ERRORS}
    assert len(ERRORS) == 6
    assert all(one.__bases__ == (CoopexportError,) for one in ERRORS)


def test_fields_are_none_unless_they_are_given():
    assert vars(InputError("what")) == {"layer": None, "number": None, "path": None, "fix": None}
    error = ParityError("what, where", layer="conv", number=2, path="graph.onnx", fix="how")
    assert str(error) == "what, where; how"
    assert vars(error) == {"layer": "conv", "number": 2.0, "path": "graph.onnx", "fix": "how"}


@pytest.mark.parametrize("kind", [CoopexportError, *ERRORS])
def test_the_error_survives_the_way_out_of_another_process(kind):
    error = kind("what, where", layer="conv", number=0.5, path="a.json", fix="how")
    other = pickle.loads(pickle.dumps(error))
    assert type(other) is kind
    assert (str(other), vars(other)) == (str(error), vars(error))


class OwnError(ParityError):
    """An error with a constructor of its own, as some rooms have."""

    def __init__(self, layer, cost):
        super().__init__(f"{layer} costs {cost}", layer=layer, number=cost, fix="cut elsewhere")
        self.cost = cost


def test_other_words_keep_class_and_fields():
    error = OwnError("conv", 3)
    other = reworded(error, f"variant a: {error}", layer="another", path="a.json")
    assert type(other) is OwnError
    assert str(other) == "variant a: conv costs 3; cut elsewhere"
    assert vars(other) == {"layer": "conv", "number": 3.0, "path": "a.json", "fix": "cut elsewhere", "cost": 3}


def test_what_another_process_raised_is_of_its_class():
    for kind in ERRORS:
        assert type(error_of_kind(kind.__name__, "why")) is kind
    for unknown in (None, "ValueError", "CoopexportError"):
        assert type(error_of_kind(unknown, "why")) is DeviceError


def test_files_that_are_missing_damaged_and_not_readable_are_three_kinds(tmp_path):
    path = str(tmp_path / "a.json")
    with pytest.raises(StaleError) as missing:
        read_json(path, "schema/1.0")
    assert missing.value.path == path
    assert missing.value.fix == "check the path, or run the command that writes it"
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(DamagedFileError) as damaged:
        read_json(path, "schema/1.0")
    assert (damaged.value.path, damaged.value.fix) == (path, "write it anew")
    with pytest.raises(InputError) as unreadable:
        read_json(str(tmp_path), "schema/1.0")
    assert unreadable.value.path == str(tmp_path)


def test_a_mistyped_option_and_a_damaged_message_are_two_kinds():
    with pytest.raises(InputError) as mistyped:
        byte_count("4 apples", "limit")
    assert str(mistyped.value).endswith(f"; {mistyped.value.fix}")
    with pytest.raises(DamagedFileError, match=r"; fit it again, or copy it again$"):
        model_from_bytes(b"\x01")
