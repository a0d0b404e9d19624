"""The report in a real browser: no complaint, no request, fit for a telephone, and figures that can be copied."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import chromium
import pytest
from example_selection import VGG_LAYERS, example_selection

from benchmarks.report.write import REPORT_FILE, report_figures, write_report

pytestmark = pytest.mark.skipif(chromium.PROGRAM is None, reason="there is no chromium: apt-get install chromium")
RESULT = example_selection(layers=VGG_LAYERS[:2], settings={"goodput_bps": {'a "quoted", link': 1.1e6}})


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    write_report(folder, RESULT, "demo")
    return folder / REPORT_FILE


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[chromium.Page]:
    with chromium.browser(tmp_path_factory.mktemp("profile")) as found:
        yield found


def csv_files(report: Path) -> list[str]:
    figures = report_figures(RESULT)
    return [(report.parent / "figures" / f"{figure.name}.csv").read_text(encoding="utf-8") for figure in figures]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_it_opens_without_complaint_or_request_and_fits(
    page: chromium.Page, report: Path, width: int, scheme: str
) -> None:
    page.open(report, width, scheme)
    assert page.complaints() == []
    assert page.requests() == [report.as_uri()]
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    shown = "[...document.querySelectorAll('figure svg')].map(svg => svg.getBoundingClientRect().width)"
    drawings = page.evaluate(shown)
    assert sum(width > 0 for width in drawings) == len(drawings) / 2  # the wide or the narrow of each
    paper = page.evaluate("getComputedStyle(document.querySelector('figure .card')).backgroundColor")
    assert paper == {"light": "rgb(255, 255, 255)", "dark": "rgb(30, 33, 38)"}[scheme]


def test_a_button_copies_each_figures_csv(page: chromium.Page, report: Path) -> None:
    page.open(report)
    kept = "window.kept = []; navigator.clipboard.writeText = text => (window.kept.push(text), Promise.resolve())"
    page.evaluate(f"{kept}; document.querySelectorAll('button').forEach(button => button.click())")
    assert page.evaluate("window.kept") == csv_files(report)
    said = page.evaluate("[...document.querySelectorAll('.said')].map(one => one.textContent)")
    assert said == [f"Copied {len(figure.data.rows)} rows." for figure in report_figures(RESULT)]


def test_where_the_clipboard_is_refused_the_table_is_selected(page: chromium.Page, report: Path) -> None:
    page.open(report)
    page.evaluate("navigator.clipboard.writeText = () => Promise.reject(new Error('refused'))")
    page.evaluate("document.querySelectorAll('button')[1].click()")
    assert page.evaluate("document.querySelectorAll('.said')[1].textContent") == "Selected. Press Ctrl+C to copy."
    selected = page.evaluate("window.getSelection().toString()")
    (cells,) = {csv_files(report)[1].split("\n")[0]}
    assert selected.split("\n")[0].split("\t") == cells.split(",")


def test_without_scripts_tables_are_there_and_buttons_are_not(page: chromium.Page, report: Path) -> None:
    page.open(report, has_script=False)
    page.ask("Emulation.setScriptExecutionDisabled", value=False)  # the page's own did not run
    buttons = json.loads(page.evaluate("JSON.stringify([...document.querySelectorAll('button')].map(b => b.hidden))"))
    assert buttons == [True] * len(report_figures(RESULT))
    assert page.evaluate("document.querySelectorAll('table[id]').length") == len(report_figures(RESULT))


def test_on_paper_all_is_unfolded_and_there_are_no_buttons(page: chromium.Page, report: Path, tmp_path: Path) -> None:
    page.open(report, scheme="dark")
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    page.ask("Emulation.setEmulatedMedia", media="print")
    assert page.evaluate("document.querySelectorAll('details:not([open])').length") == 0
    assert page.evaluate("getComputedStyle(document.querySelector('button')).display") == "none"
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    page.evaluate("window.dispatchEvent(new Event('afterprint'))")
    assert page.evaluate("document.querySelectorAll('details[open]').length") == 0
    page.print(tmp_path / "report.pdf")
    assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF")
    page.ask("Emulation.setEmulatedMedia", media="")
