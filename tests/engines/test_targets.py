"""Targets: every one has a backend, and an unknown one is refused with the nearest name."""

from __future__ import annotations

import pytest

from engines.backends import all_backends
from engines.targets import find_target, load_targets
from jetson.errors import CoopexportError

NAMES = tuple(load_targets())


@pytest.mark.parametrize("name", NAMES)
def test_every_target_has_a_backend_and_what_it_needs(name: str) -> None:
    target = find_target(name)
    assert target.name == name
    assert target.description
    assert target.backend in all_backends()
    if target.backend == "onnxruntime":
        assert target.providers
    else:
        major, _, minor = (target.compute_capability or "").partition(".")
        assert major.isdigit()
        assert minor.isdigit()


@pytest.mark.parametrize(
    ("written", "meant"), [("rtx-adda", "rtx-ada"), ("rtx-amper", "rtx-ampere"), ("CPU", None), ("cdua", "cuda")]
)
def test_unknown_target_names_the_nearest_and_all(written: str, meant: str | None) -> None:
    with pytest.raises(CoopexportError, match=f'target "{written}" is unknown') as refusal:
        find_target(written)
    assert all(name in str(refusal.value) for name in NAMES)
    assert ("did you mean" in str(refusal.value)) == (meant is not None)
    if meant is not None:
        assert f"did you mean {meant}?" in str(refusal.value)


def test_names_are_usable_as_folders() -> None:
    assert all(name == name.strip() and "/" not in name and name not in (".", "..") for name in NAMES)
