"""The documents point to files that exist and hold no leftovers."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from coopexport.command_line import main

REPOSITORY = Path(__file__).resolve().parents[2]


DOCUMENTS = (
    *(f"{name}.md" for name in ("README", "CHANGELOG", "CONTRIBUTING", "SECURITY")),
    *(str(path.relative_to(REPOSITORY)) for path in sorted((REPOSITORY / "docs").glob("*.md"))),
)
README = (REPOSITORY / "README.md").read_text()


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_resolve_and_nothing_is_left_to_fill_in(name: str) -> None:
    document = REPOSITORY / name
    text = document.read_text()
    assert not re.search(r"@[A-Z]+@|TODO|FIXME", text)
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        if not target.startswith("https://"):
            assert (document.parent / target).is_file(), target


def test_the_index_leads_to_every_page() -> None:
    linked = set(re.findall(r"\]\((\w+\.md)\)", (REPOSITORY / "docs" / "README.md").read_text()))
    assert linked == {path.name for path in (REPOSITORY / "docs").glob("*.md")} - {"README.md"}


def test_the_readme_is_one_screen() -> None:
    assert len(README.splitlines()) <= 150
    assert len(block("sh", "coopexport init").splitlines()) == 6
    assert len(block("python", "import coopexport").splitlines()) <= 9


def test_the_commands_of_the_readme_exist() -> None:
    makefile = (REPOSITORY / "Makefile").read_text()
    for target in re.findall(r"`make ([\w-]+)`", README):
        assert f"\n{target}:" in makefile, target
    for line in block("sh", "coopexport init").splitlines():
        check_options(line.split("#")[0].split()[1:])
    table = README[README.index("## Verbs") :]
    rows = re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
    verbs = {name.split()[0] for row in rows for name in row.split("`")[1::2]}
    assert verbs == set(main.list_commands(click.Context(main)))


def check_options(words: list[str]) -> None:
    """Every word that begins with -- is an option of the command named before it."""
    command: click.Command = main
    while isinstance(command, click.Group):
        found = command.get_command(click.Context(command), words[0])
        assert found is not None, words[0]
        command, words = found, words[1:]
    known = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= known, words


def test_the_python_of_the_readme_runs(finished_project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(finished_project)
    (finished_project / "out" / "plan.json").unlink()
    exec(compile(block("python", "import coopexport"), "README.md", "exec"), {})
    assert (finished_project / "out" / "plan.json").is_file()


def block(language: str, part: str) -> str:
    """Return the one block of the README in `language` that holds `part`."""
    (found,) = (text for text in re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL) if part in text)
    return str(found)
