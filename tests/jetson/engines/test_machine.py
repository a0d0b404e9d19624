"""A machine is read as it was written, and what is not known stays unknown."""

from __future__ import annotations

import json

import pytest
from engine_examples import DESKTOP, ORIN

from jetson.engines.machine import Machine, machine_from_json


@pytest.mark.parametrize("machine", [DESKTOP, ORIN, Machine("Linux", "x86_64")])
def test_what_is_written_is_read_again(machine: Machine) -> None:
    content = json.loads(json.dumps(machine.to_json()))
    assert None not in content.values()
    assert machine_from_json(content) == machine
    assert machine_from_json({**content, "of a later version": 5}) == machine


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "not an object"),
        ({"architecture": "x86_64"}, "lacks its operating_system"),
        ({"operating_system": "Linux", "architecture": ""}, "architecture is not text"),
        ({"operating_system": "Linux", "architecture": "x86_64", "l4t": 36.4}, "l4t is not text"),
        ({"operating_system": "Linux", "architecture": "x86_64", "backends": ["tensorrt"]}, "not versions by name"),
    ],
)
def test_anything_else_is_refused(content: object, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        machine_from_json(content)
