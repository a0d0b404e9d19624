"""The examples of docs/api.md run as they stand there, and name every verb of the API."""

from __future__ import annotations

import re
from pathlib import Path

import coopexport

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "api.md"
VERBS = ("prune", "shrink", "candidates", "split", "calibrate", "lower", "build", "bench", "select", "report")


def test_examples_run(finished_project: Path) -> None:
    text = DOCUMENT.read_text()
    blocks = list(re.finditer(r"```python\n(.*?)```", text, flags=re.DOTALL))
    assert len(blocks) >= len(VERBS)
    script = ""
    for block in blocks:  # at the lines where they stand, so that a failure names its own
        script += "\n" * (text.count("\n", 0, block.start(1)) - script.count("\n")) + block[1]
    exec(compile(script, str(DOCUMENT), "exec"), {"project_file": finished_project / "coopexport.toml"})


def test_examples_import_nothing_of_ours_but_coopexport() -> None:
    imported = re.findall(
        r"^(?:import|from) (\w+)",
        "\n".join(re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), flags=re.DOTALL)),
        re.MULTILINE,
    )
    assert "coopexport" in imported
    assert not {"jetson", "exporter", "engines", "calibration", "benchmarks"} & set(imported)


def test_every_verb_is_documented_and_importable() -> None:
    text = DOCUMENT.read_text()
    for verb in VERBS:
        assert f"## {verb}\n" in text
        assert getattr(coopexport, verb).__doc__


def test_the_api_is_listed() -> None:
    assert set(VERBS) <= set(dir(coopexport))
