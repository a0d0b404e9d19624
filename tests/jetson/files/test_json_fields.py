"""Values come out of parsed JSON by their keys, or an error names file, key and advice."""

import pytest

from jetson.errors import CoopexportError
from jetson.files.json_fields import (
    JsonObject,
    choice_at,
    count_at,
    counts_at,
    has,
    object_at,
    objects_at,
    text_at,
    wrong,
)

PLACE = JsonObject(
    {
        "text": "a",
        "count": 3,
        "counts": [1, 2],
        "object": {"inside": "b"},
        "objects": [{}, {"inside": 4}],
        "null": None,
    },
    "a.json",
    "",
    "write it anew",
)


def test_values_come_out():
    assert text_at(PLACE, "text") == "a"
    assert choice_at(PLACE, "text", ("a", "b")) == "a"
    assert count_at(PLACE, "count") == 3
    assert counts_at(PLACE, "counts") == (1, 2)
    assert text_at(object_at(PLACE, "object"), "inside") == "b"
    assert [has(item, "inside") for item in objects_at(PLACE, "objects")] == [False, True]
    assert (has(PLACE, "text"), has(PLACE, "null"), has(PLACE, "none")) == (True, False, False)


@pytest.mark.parametrize(
    ("read", "said"),
    [
        (lambda: text_at(PLACE, "none"), "a.json: none is missing; write it anew"),
        (lambda: text_at(PLACE, "count"), "a.json: count is not text; write it anew"),
        (lambda: choice_at(PLACE, "text", ("b", "c")), "a.json: text is 'a'; this version knows b, c; write it anew"),
        (
            lambda: count_at(PLACE, "null"),
            "a.json: null is None, and must be a whole number of 1 or more; write it anew",
        ),
        (lambda: counts_at(PLACE, "objects"), "a.json: objects.0 is {}, and must be a whole number of 1 or more; "),
        (lambda: counts_at(PLACE, "text"), "a.json: text is not a list; write it anew"),
        (lambda: object_at(PLACE, "counts"), "a.json: counts is not an object; write it anew"),
        (lambda: objects_at(PLACE, "counts"), "a.json: counts.0 is not an object; write it anew"),
        (lambda: text_at(object_at(PLACE, "object"), "none"), "a.json: object.none is missing; write it anew"),
        (
            lambda: text_at(objects_at(PLACE, "objects")[1], "inside"),
            "a.json: objects.1.inside is not text; write it anew",
        ),
    ],
)
def test_errors_name_file_key_and_advice(read, said):
    with pytest.raises(CoopexportError) as caught:
        read()
    assert str(caught.value).startswith(said)


def test_other_problems_read_the_same():
    assert str(wrong(object_at(PLACE, "object"), "inside", "is odd")) == "a.json: object.inside is odd; write it anew"
