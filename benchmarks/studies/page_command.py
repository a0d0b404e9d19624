"""The frame of the commands that measure something and write a page of Markdown about it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from jetson.errors import CoopexportError
from jetson.files.atomic_files import write_file


def page_parser(description: str | None, example: str) -> argparse.ArgumentParser:
    """Return a parser with `--output`; `example`: where the page is kept in this repository."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, help=f"Markdown file to write, such as {example}")
    return parser


def deliver(make_page: Callable[[], str], output: Path | None) -> int:
    """Make the page and write it to `output`, or print it; returns the exit code, 2 with one line on a refusal."""
    try:
        text = make_page()
    except CoopexportError as error:
        print(error, file=sys.stderr)
        return 2
    if output is None:
        print(text)
    else:
        write_file(str(output), text.encode())
        say(f"wrote {output}")
    return 0


def say(text: str) -> None:
    """Tell on standard error how far the work is."""
    print(text, file=sys.stderr, flush=True)
