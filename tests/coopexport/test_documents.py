"""The documents point to files that exist and hold no leftovers."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    "name",
    [
        "README.md",
        "CHANGELOG.md",
        "docs/formats.md",
        "docs/api.md",
        "docs/targets.md",
        "docs/training.md",
        "docs/precision.md",
    ],
)
def test_links_resolve_and_nothing_is_left_to_fill_in(name: str) -> None:
    document = REPOSITORY / name
    text = document.read_text()
    assert not re.search(r"@[A-Z]+@|TODO|FIXME", text)
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        if not target.startswith("https://"):
            assert (document.parent / target).is_file(), target


def test_the_readme_begins_with_the_commands_that_set_everything_up() -> None:
    commands = re.search(r"```sh\n(.*?)```", (REPOSITORY / "README.md").read_text(), flags=re.DOTALL)
    assert commands is not None
    assert [line.split("#")[0].strip() for line in commands.group(1).splitlines()] == [
        "make demo",
        "make test",
        "make check-full",
    ]
    makefile = (REPOSITORY / "Makefile").read_text()
    assert all(f"\n{target}:" in makefile for target in ("demo", "test", "check-full"))
