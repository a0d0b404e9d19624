"""JSON files carry their schema, hold no NaN, and are refused in one clear line."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jetson.errors import CoopexportError
from jetson.files.json_files import encode_json, read_json, same_major, write_json

SCHEMA = "coopexport.thing/2.1"
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(), children, max_size=4),
    max_leaves=12,
)


def refusal(path, schema=SCHEMA):
    """Return the message with which the file at `path` is refused; it is one line and names the file."""
    with pytest.raises(CoopexportError) as caught:
        read_json(str(path), schema)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


@given(content=st.dictionaries(st.text().filter(lambda key: key != "schema"), JSON_VALUES, max_size=5))
@settings(deadline=None, max_examples=40)
def test_what_was_written_is_read_back(tmp_path_factory, content):
    path = str(tmp_path_factory.mktemp("json") / "thing.json")
    write_json(path, SCHEMA, content)
    assert read_json(path, SCHEMA) == content


def test_the_schema_comes_first_and_the_file_is_utf_8_text_with_a_final_newline():
    encoded = encode_json(SCHEMA, {"name": "β", "values": [1, 2.5]})
    assert json.loads(encoded.decode("utf-8")) == {"schema": SCHEMA, "name": "β", "values": [1, 2.5]}
    assert encoded.startswith(b'{\n "schema": "coopexport.thing/2.1"')
    assert encoded.endswith(b"}\n")


def test_the_schema_is_the_writers_even_when_the_content_brings_one():
    document = json.loads(encode_json(SCHEMA, {"schema": "coopexport.other/9.9", "value": 1}))
    assert document == {"schema": SCHEMA, "value": 1}


def test_another_name_is_refused_with_both_named(tmp_path):
    write_json(str(tmp_path / "a.json"), "coopexport.other/2.1", {})
    message = refusal(tmp_path / "a.json")
    assert "coopexport.other/2.1" in message
    assert SCHEMA in message


@pytest.mark.parametrize("found", ["coopexport.thing/1.9", "coopexport.thing/3.0", "coopexport.thing/21.0"])
def test_another_major_version_is_refused_with_both_named(tmp_path, found):
    write_json(str(tmp_path / "a.json"), found, {})
    message = refusal(tmp_path / "a.json")
    assert found in message
    assert SCHEMA in message


def test_a_later_minor_version_is_accepted_with_fields_that_are_not_known(tmp_path):
    write_json(str(tmp_path / "a.json"), "coopexport.thing/2.17", {"value": 1, "from_the_future": [2]})
    assert read_json(str(tmp_path / "a.json"), SCHEMA)["value"] == 1


@pytest.mark.parametrize(
    ("found", "same"),
    [
        ("coopexport.thing/2.0", True),
        ("coopexport.thing/2.10", True),
        ("coopexport.thing/2", False),
        ("coopexport.thing", False),
        ("coopexport.thing/2.1.0", False),
        ("thing/2.1", False),
        ("", False),
    ],
)
def test_same_major(found, same):
    assert same_major(found, SCHEMA) is same


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf, np.float64("nan")])
def test_numbers_that_are_none_are_refused_at_write_saying_where(tmp_path, number):
    with pytest.raises(ValueError, match=r"coopexport\.thing/2\.1\.items\[1\]\.p50_ms holds"):
        write_json(str(tmp_path / "a.json"), SCHEMA, {"items": [{}, {"p50_ms": number}]})
    assert list(tmp_path.iterdir()) == []


def test_what_json_does_not_know_is_refused_at_write(tmp_path):
    with pytest.raises(TypeError):
        write_json(str(tmp_path / "a.json"), SCHEMA, {"array": np.zeros(3)})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"-Infinity", b"1e999"])
def test_numbers_that_are_none_are_refused_at_read(tmp_path, number):
    (tmp_path / "a.json").write_bytes(b'{"schema": "coopexport.thing/2.1", "values": [1, ' + number + b"]}")
    assert "values[1] holds" in refusal(tmp_path / "a.json")


def test_a_missing_file_is_named_in_one_line(tmp_path):
    assert "is missing" in refusal(tmp_path / "a.json")


def test_a_folder_or_a_path_below_a_file_is_no_traceback(tmp_path):
    assert "Is a directory" in refusal(tmp_path)
    (tmp_path / "file").write_bytes(b"")
    assert "Not a directory" in refusal(tmp_path / "file" / "a.json")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b'{"schema": "coopexport.thing/2.1"',
        b"\xff\xfe",
        b"\x00" * 100,
        b"[" * 200_000,
        b'{"a":' * 200_000,
        b"{'schema': 1}",
        b'{"schema": "coopexport.thing/2.1", "n": ' + b"9" * 10_000 + b"e}",
    ],
    ids=["empty", "truncated", "no-text", "zeros", "brackets", "braces", "quotes", "number"],
)
def test_a_corrupt_file_is_named_in_one_line(tmp_path, content):
    (tmp_path / "a.json").write_bytes(content)
    message = refusal(tmp_path / "a.json")
    assert "not valid JSON" in message
    assert len(message) < 400 + len(str(tmp_path))


@pytest.mark.parametrize("content", [b"[]", b"3", b"null", b"{}", b'{"schema": 1}', b'{"schema": null}'])
def test_json_without_a_schema_is_refused(tmp_path, content):
    (tmp_path / "a.json").write_bytes(content)
    assert 'no "schema"' in refusal(tmp_path / "a.json")


@given(content=st.binary(max_size=60))
@settings(deadline=None, max_examples=100)
def test_random_bytes_are_refused(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("json") / "a.json"
    path.write_bytes(content)
    refusal(path)


def test_every_truncation_is_refused(tmp_path):
    encoded = encode_json(SCHEMA, {"items": [{"name": "conv4_1", "p50_ms": 1.5}]})
    for length in range(len(encoded) - 2):  # the final newline is not needed
        (tmp_path / "a.json").write_bytes(encoded[:length])
        refusal(tmp_path / "a.json")
