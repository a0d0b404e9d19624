"""docs/tutorial.md runs as it stands there, and prints what it shows."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from conftest import run_coopexport

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "tutorial.md"
BLOCK = re.compile(r"```(python|sh|toml|text)\n(.*?)```", re.DOTALL)


def test_the_tutorial_runs(tmp_path: Path) -> None:
    printed, kinds = "", set()
    for kind, content in BLOCK.findall(DOCUMENT.read_text()):
        kinds.add(kind)
        if kind == "python":
            name = re.match(r"# (\w+\.py)\n", content)
            assert name is not None, f"a block of Python without the name of its file: {content[:40]}"
            (tmp_path / name.group(1)).write_text(content)
        elif kind == "sh":
            printed = "".join(run(line, tmp_path) for line in content.splitlines())
        elif kind == "toml":
            edit(tmp_path / "coopexport.toml", content)
        else:
            check_printed(content, printed)
    assert kinds == {"python", "sh", "toml", "text"}
    assert (tmp_path / "out/pruned/engines/cpu/layer2.1.relu_1.head.engine.json").is_file()


def run(line: str, folder: Path) -> str:
    """Run one line: coopexport in this process, the user's scripts in their own."""
    program, *arguments = line.split()
    if program == "coopexport":
        result = run_coopexport(folder, *arguments)
        assert result.code == 0, result.errors
        return result.output
    assert program == "python", line
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def edit(path: Path, wanted: str) -> None:
    """Put the values of `wanted` where the file has others in the same section."""
    section, lines = "", path.read_text().splitlines()
    for line in wanted.splitlines():
        if line.startswith("["):
            section = line
        elif line:
            key = line.split(" = ")[0]
            start = lines.index(section)
            place = next(i for i in range(start, len(lines)) if lines[i].startswith(f"{key} = "))
            lines[place] = line
    path.write_text("\n".join(lines) + "\n")


def check_printed(shown: str, printed: str) -> None:
    """Every line that is shown was printed, but for how columns are padded."""
    found = [" ".join(line.split()) for line in printed.splitlines()]
    for line in shown.splitlines():
        assert any(one.startswith(" ".join(line.split())) for one in found), f"not printed: {line}\n{printed}"
