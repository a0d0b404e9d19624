"""The handshake's contents: read as they were written; anything else is one error."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jetson.errors import DamagedFileError
from jetson.stream.hello import (
    Hello,
    Output,
    Pair,
    Route,
    Welcome,
    hello_bytes,
    read_hello,
    read_welcome,
    welcome_bytes,
)

TEXT = st.text(max_size=40)
PAIRS = st.lists(st.builds(Pair, TEXT, TEXT, TEXT, TEXT, TEXT), max_size=4).map(tuple)
OUTPUTS = st.lists(
    st.builds(Output, TEXT, st.just("float32"), st.lists(st.integers(0, 9), max_size=4).map(tuple)), max_size=3
)
ROUTES = st.one_of(st.builds(Route, OUTPUTS.map(tuple), st.none()), st.builds(Route, st.just(()), TEXT))


@given(st.builds(Hello, TEXT, TEXT, PAIRS))
def test_a_hello_is_read_as_it_was_written(hello):
    assert read_hello(hello_bytes(hello)) == hello


@given(st.builds(Welcome, TEXT, TEXT, st.integers(0, 10**9), st.integers(0, 10**4), st.lists(ROUTES).map(tuple)))
def test_a_welcome_is_read_as_it_was_written(welcome):
    assert read_welcome(welcome_bytes(welcome)) == welcome


@pytest.mark.parametrize(
    "body",
    [
        b"", b"\xff", b"[]", b"{}", b'{"release":1,"device":"d","pairs":[]}', b'{"release":"","device":"","pairs":{}}',
        b'{"release":"r","device":"d","pairs":[["a"]]}', b"[" * 100_000,
        json.dumps({"release": "r", "device": "d", "pairs": [["x"] * 5] * 5000}).encode(),
        json.dumps({"release": "r" * 300, "device": "d", "pairs": []}).encode(),
    ],
)  # fmt: skip
def test_what_is_no_hello_is_one_error(body):
    with pytest.raises(DamagedFileError, match="cannot be read"):
        read_hello(body)


@given(st.binary(max_size=100))
def test_any_bytes_are_a_welcome_or_one_error(body):
    with pytest.raises(DamagedFileError, match="cannot be read"):
        read_welcome(body)


def test_outputs_of_dtypes_that_numpy_would_run_code_for_are_refused():
    route = {"outputs": [["y", "object", [1]]]}
    body = {"release": "", "server": "", "most_body_bytes": 1, "most_in_flight": 1, "routes": [route]}
    with pytest.raises(DamagedFileError, match="no dtype"):
        read_welcome(json.dumps(body).encode())
