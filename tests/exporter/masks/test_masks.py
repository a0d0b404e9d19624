"""Mask files: what goes in comes out, meaning included; anything else is refused in one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from safetensors.numpy import save

from exporter.masks.masks import Masks, encode_masks, read_masks, write_masks
from jetson.errors import CoopexportError

KEEP = {"features.conv1": np.array([True, False, True]), "fc": np.array([False, True])}
METADATA = {"schema": "coopexport.masks/1.0", "meaning": "channel", "origin": "by hand"}

names = st.text(min_size=1, max_size=12).filter(lambda name: name != "__metadata__")
vectors = arrays.arrays(np.bool_, st.integers(1, 40))


@given(st.dictionaries(names, vectors, max_size=5), st.sampled_from(["channel", "weight"]), st.text(max_size=20))
def test_round_trip(tmp_path_factory, keep, meaning, origin) -> None:
    path = tmp_path_factory.mktemp("masks") / "masks.safetensors"
    write_masks(path, Masks(keep, meaning, origin))
    found = read_masks(path)
    assert (found.meaning, found.origin) == (meaning, origin)
    assert set(found.keep) == set(keep)
    for name, vector in keep.items():
        assert found.keep[name].dtype == np.bool_
        assert found.keep[name].tolist() == vector.tolist()


def test_the_same_masks_are_the_same_bytes() -> None:
    masks = Masks({"a": np.array([True, False]), "b": np.array([True])}, "channel", "of a test")
    assert len({encode_masks(masks) for _ in range(20)}) == 1


def test_a_strided_mask_is_written_as_it_reads(tmp_path: Path) -> None:
    path = tmp_path / "masks.safetensors"
    write_masks(path, Masks({"conv": np.array([True, False, False, True, True, False])[::2]}, "channel"))
    assert read_masks(path).keep["conv"].tolist() == [True, False, True]


def refusal(path: Path) -> str:
    with pytest.raises(CoopexportError) as caught:
        read_masks(path)
    assert str(path) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("metadata", "word"),
    [
        ({"schema": "coopexport.masks/2.0"}, "coopexport.masks/2.0"),
        ({"schema": "coopexport.split/1.0"}, "coopexport.split/1.0"),
        ({"schema": ""}, '""'),
        ({"meaning": "filter"}, '"filter"'),
        ({"meaning": ""}, "channel, weight"),
    ],
)
def test_another_schema_or_meaning_is_refused(tmp_path: Path, metadata: dict[str, str], word: str) -> None:
    path = tmp_path / "masks.safetensors"
    path.write_bytes(save(KEEP, {**METADATA, **metadata}))
    assert word in refusal(path)


def test_a_later_minor_version_is_read(tmp_path: Path) -> None:
    path = tmp_path / "masks.safetensors"
    path.write_bytes(save(KEEP, {**METADATA, "schema": "coopexport.masks/1.7", "more": "to come"}))
    assert read_masks(path).keep["fc"].tolist() == [False, True]


def test_a_file_without_metadata_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "masks.safetensors"
    path.write_bytes(save(KEEP))
    assert "schema" in refusal(path)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.int64])
def test_numbers_are_no_masks(tmp_path: Path, dtype: type) -> None:
    path = tmp_path / "masks.safetensors"
    path.write_bytes(save({"fc": np.array([0, 1], dtype)}, METADATA))
    message = refusal(path)
    assert "fc" in message
    assert np.dtype(dtype).name in message


def test_a_matrix_is_no_mask(tmp_path: Path) -> None:
    with pytest.raises(CoopexportError, match=r"fc.*\(2, 2\)"):
        Masks({"fc": np.ones((2, 2), bool)}, "channel")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert "missing" in refusal(tmp_path / "masks.safetensors")


@given(st.data())
def test_a_damaged_file_is_refused_or_reads_as_masks(tmp_path_factory, data) -> None:
    """Cut off or with bytes changed: one line, or (a flipped mask entry) masks; never another exception."""
    content = bytearray(save(KEEP, METADATA))
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(0, len(content) - 1))]
    else:
        for _ in range(data.draw(st.integers(1, 4))):
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("masks") / "masks.safetensors"
    path.write_bytes(content)
    try:
        masks = read_masks(path)
    except CoopexportError as error:
        assert str(path) in str(error)
    else:
        assert all(keep.dtype == np.bool_ for keep in masks.keep.values())
