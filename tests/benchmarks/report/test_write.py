"""The report: the selector's own numbers, every candidate, what it rests on, and nothing that leaves the page."""

import base64
import csv
import functools
import hashlib
import io
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from example_selection import RUN, VGG_LAYERS, example_selection
from round_trips import TWO_TRIPS, with_links

from benchmarks.figures.report_figure import DrawnFigure
from benchmarks.latency.run import LatencyRun, write_run
from benchmarks.report.write import REPORT_FILE, report_figures, write_report
from benchmarks.selection.selector import describe, latency_ms
from benchmarks.selection.terms import compared, terms_of
from jetson.errors import CoopexportError

FAST = {"whole_ms": (0.19, 0.08)}  # so fast that the device alone is best
OFFLOAD = {"settings": {"device_slowdown": 500.0}}  # so slow a device that full offload is best
SMALL = functools.partial(example_selection, layers=VGG_LAYERS[:2], settings={"goodput_bps": {"3G": 1.1e6}})
HOSTILE = "<img src=x onerror=alert(1)>&\"'"


VOID = {"meta", "img", "br", "link"}  # tags that are never closed


class Page(HTMLParser):
    """A page's texts, tables (rows of cells) and tags; refuses tags that are closed in the wrong order."""

    def __init__(self, content):
        super().__init__()
        self.tables, self.ids, self.tags, self.attributes, self.open, self.text = [], [], set(), [], [], ""
        self.feed(content)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
            self.ids.append(dict(attrs).get("id"))
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_startendtag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "script"):
            self.text += data
        if self.open and self.open[-1] in ("td", "th"):
            self.tables[-1][-1][-1] += data

    def table(self, *columns):
        """Return the rows of the tables that have these columns."""
        return [table[1:] for table in self.tables if set(columns) <= set(table[0])]


@pytest.fixture
def no_drawing(monkeypatch):
    """Leave out the drawing, which takes most of the time, where only the text matters."""
    svg = b'<svg xmlns="http://www.w3.org/2000/svg"/>'
    monkeypatch.setattr("benchmarks.report.write.drawn", lambda figure: DrawnFigure(figure, svg, svg, b"PNG"))


def report_of(folder, result, title="demo VGG-16"):
    write_report(folder, result, title)
    return Page((folder / REPORT_FILE).read_text(encoding="utf-8"))


def latency_run(**changes):
    content = {
        "run": RUN, "started_at": "2026-08-01T10:11:12.000+00:00", "target": "cpu", "backend": "onnxruntime",
        "host": {"name": "workstation7", "processor": "Example 9000", "cores": 2, "system": "Linux 6.1"},
        "backend_version": "1.31.1", "threads": 1, "warm_up": 10, "rounds": 100, "interleaved": True, "items": (),
    }  # fmt: skip
    return LatencyRun.model_validate({**content, **changes})


# --- Files ---


def test_three_files_a_figure_are_written_the_report_last(tmp_path, monkeypatch):
    written = []
    import benchmarks.report.write as module

    real = module.write_files
    monkeypatch.setattr(module, "write_files", lambda folder, files: (written.append(list(files)), real(folder, files)))
    paths = write_report(tmp_path / "out", SMALL(), "demo")
    names = [figure.name for figure in report_figures(SMALL())]
    kinds = ("svg", "png", "csv")
    assert written == [[*(f"figures/{name}.{kind}" for name in names for kind in kinds), REPORT_FILE]]
    assert paths == [tmp_path / "out" / name for name in written[0]]
    assert all(path.is_file() for path in paths)
    inline = paths[-1].read_text(encoding="utf-8")
    for path in paths[:-1]:  # the figures in the page are the files
        if path.suffix == ".svg":
            assert path.read_text(encoding="utf-8").split(">", 1)[1] in inline
    assert inline.count("<svg ") == 2 * len(names)  # wide and narrow
    check_page(Page(inline), inline)


@pytest.mark.usefixtures("no_drawing")
def test_every_figure_has_its_table_and_the_table_is_its_csv(tmp_path):
    result = example_selection(layers=[*VGG_LAYERS[:2], 'a "quoted", name', HOSTILE], variants=("original", HOSTILE))
    page = report_of(tmp_path, result)
    for figure in report_figures(result):
        text = (tmp_path / "figures" / f"{figure.name}.csv").read_text(encoding="utf-8")
        rows = list(csv.reader(io.StringIO(text, newline="")))
        assert rows == [list(figure.data.columns), *map(list, figure.data.rows)]
        assert page.tables[page.ids.index(f"{figure.name}-data")] == rows
        assert ("data-table", f"{figure.name}-data") in page.attributes
        assert set(figure.data.numbers) <= set(figure.data.columns)
        for column in figure.data.numbers:  # plain numbers, or nothing where nothing is known
            assert all(cell == "" or float(cell) is not None for cell in
                       (row[figure.data.columns.index(column)] for row in figure.data.rows))  # fmt: skip


@pytest.mark.usefixtures("no_drawing")
def test_only_our_own_script_may_run(tmp_path):
    report_of(tmp_path, SMALL())
    text = (tmp_path / REPORT_FILE).read_text(encoding="utf-8")
    (script,) = re.findall("<script>(.*?)</script>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)
    assert policy.split("; ") == [
        "default-src 'none'", "style-src 'unsafe-inline'", f"script-src 'sha256-{digest}'", "base-uri 'none'",
        "form-action 'none'",
    ]  # fmt: skip


@pytest.mark.usefixtures("no_drawing")
def test_the_same_selection_gives_the_same_report(tmp_path):
    for name in "ab":
        write_report(tmp_path / name, SMALL(), "demo")
    assert (tmp_path / "a" / REPORT_FILE).read_bytes() == (tmp_path / "b" / REPORT_FILE).read_bytes()


def test_without_matplotlib_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    with pytest.raises(CoopexportError, match="matplotlib"):
        write_report(tmp_path, SMALL(), "demo")
    assert list(tmp_path.iterdir()) == []


# --- Nothing leaves the page, nothing gets in ---


@pytest.mark.usefixtures("no_drawing")
@pytest.mark.parametrize("options", [{}, FAST, OFFLOAD, {"variants": ("original",)}])
def test_the_page_is_well_formed_and_asks_for_nothing(tmp_path, options):
    page = report_of(tmp_path, example_selection(**{"layers": VGG_LAYERS[:3], **options}))
    check_page(page, (tmp_path / REPORT_FILE).read_text(encoding="utf-8"))


def check_page(page, text):
    without_names = re.sub(r'xmlns(:\w+)?="[^"]*"', "", text)
    assert not re.search(r"https?://|//\w+\.\w", without_names)
    assert not re.search(r"@import|url\((?!#)", text)
    assert page.tags.isdisjoint({"link", "iframe", "object", "embed", "img", "image", "form", "base"})
    references = [value for name, value in page.attributes if name in ("src", "href", "xlink:href", "action")]
    assert all(value.startswith("#") for value in references)
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert "prefers-color-scheme: dark" in text
    assert ("name", "viewport") in page.attributes


@pytest.mark.usefixtures("no_drawing")
def test_hostile_names_are_escaped_wherever_they_come_from(tmp_path):
    result = example_selection(
        layers=[HOSTILE, "conv\x1b"],
        variants=("original", HOSTILE),
        settings={"goodput_bps": {HOSTILE: 1e6}, "maximum_loss_points": 0.3},
        target=HOSTILE,
    )
    rows = tuple(replace(row, run=f"../{HOSTILE}") for row in result.rows[:3]) + result.rows[3:]
    candidates = tuple(replace(item, reason=HOSTILE) if item.reason else item for item in result.selection.candidates)
    result = replace(result, metric=HOSTILE, rows=rows, selection=replace(result.selection, candidates=candidates))
    host = {"name": HOSTILE, "processor": HOSTILE, "system": HOSTILE, "cores": HOSTILE, "load_average": HOSTILE}
    write_run(tmp_path / "runs", latency_run(host=host, backend=HOSTILE, started_at=HOSTILE, backend_version=HOSTILE))
    page = report_of(tmp_path, result, title=HOSTILE)
    text = (tmp_path / REPORT_FILE).read_text(encoding="utf-8")
    assert "<img" not in text
    assert "img" not in page.tags
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert page.text.count(HOSTILE) > 30


# --- Numbers ---


@pytest.mark.usefixtures("no_drawing")
@pytest.mark.parametrize("options", [{}, FAST, OFFLOAD], ids=["split", "device", "edge"])
def test_the_numbers_in_the_tables_are_the_selectors(tmp_path, options):
    result = example_selection(**options)
    [table] = report_of(tmp_path, result).table("transmission_ms", "total_ms")
    for choice in result.selection.links:
        rows = [row for row in table if row[0] == choice.link]
        entries = compared(result.selection, choice)
        assert [entry.name for entry in entries][-1] == "chosen"
        assert entries[-1].terms.total_ms == choice.latency_ms
        for row, entry in zip(rows, entries, strict=True):
            _, goodput, trip, name, *of_candidate, device_ms, transmission_ms, edge_ms, total_ms, out = row
            variant, cut, coding, size, metric = of_candidate
            assert float(trip) == choice.round_trip_ms == 0
            candidate = result.selection.candidates[entry.index]
            assert float(goodput) == choice.goodput_bps
            assert (name, variant, cut, coding) == (entry.name, candidate.variant, candidate.layer, candidate.coding)
            assert out == candidate.reason
            assert size == f"{candidate.payload_bytes:.1f}"
            assert metric == f"{100 * candidate.metric:.2f}"
            assert (device_ms, edge_ms) == (f"{candidate.device_ms:.4f}", f"{candidate.edge_ms:.4f}")
            assert transmission_ms == f"{8000 * candidate.payload_bytes / choice.goodput_bps:.4f}"
            assert total_ms == f"{latency_ms(candidate, choice.goodput_bps):.4f}"


def test_terms_add_up_to_the_selectors_latency_to_the_last_bit():
    result = example_selection()
    for candidate in result.selection.candidates:
        for choice in result.selection.links:
            assert terms_of(candidate, choice.goodput_bps).total_ms == latency_ms(candidate, choice.goodput_bps)
    with pytest.raises(ValueError, match="not known"):
        terms_of(replace(candidate, edge_ms=None), 1e6)


@pytest.mark.usefixtures("no_drawing")
def test_intervals_and_their_switch_points_are_in_the_report(tmp_path):
    result = example_selection()
    [rows] = report_of(tmp_path, result).table("from Mbit/s", "to Mbit/s")
    for row, interval in zip(rows, result.selection.intervals, strict=True):
        assert row[0] == f"{interval.from_bps / 1e6:.3f}"
        assert row[1] == ("and more" if interval.upto_bps is None else f"{interval.upto_bps / 1e6:.3f}")
        assert row[2] == describe(result.selection.candidates[interval.candidate])
    assert sorted(", ".join(row[3] for row in rows if row[3]).split(", ")) == [
        "3G (1.1 Mbit/s)", "4G (5.85 Mbit/s)", "WiFi (18.88 Mbit/s)",
    ]  # fmt: skip


@pytest.mark.usefixtures("no_drawing")
def test_intervals_of_each_round_trip_have_the_links_with_it(tmp_path):
    result = with_links(example_selection(), TWO_TRIPS)
    page = report_of(tmp_path, result)
    tables = page.table("from Mbit/s", "to Mbit/s")
    links = [", ".join(row[3] for row in rows if row[3]) for rows in tables]
    assert links[0].split(", ")[::2] == ["3G (1.1 Mbit/s", "WiFi (18.88 Mbit/s"]
    assert links[1] == "4G (5.85 Mbit/s, 60 ms)"
    for trip, rows in zip((2, 60), tables, strict=True):
        assert f"rows at a round trip of {trip} ms" in page.text
        envelope = next(one for one in result.selection.envelopes if one.round_trip_ms == trip)
        assert [row[0] for row in rows] == [f"{item.from_bps / 1e6:.3f}" for item in envelope.intervals]
    [rows] = page.table("transmission_ms", "total_ms")
    assert {(row[0], row[2]) for row in rows} == {("4G", "60"), ("WiFi", "2"), ("3G", "2")}


# --- Assumptions and provenance ---


@pytest.mark.usefixtures("no_drawing")
def test_what_it_rests_on_stands_before_any_figure(tmp_path):
    write_run(tmp_path / "runs", latency_run())
    page = report_of(tmp_path, example_selection(settings={"device_slowdown": 7.5}))
    before_figures = page.text.split("Where splitting pays")[0]
    assert "What this rests on" in before_figures
    [rows] = page.table("what", "value")
    found = dict(rows)
    assert found["measured on"] == "Example 9000 (workstation7)"
    assert found["device_slowdown, assumed, not measured"] == "7.5"
    assert (found["images counted"], found["points of one image"]) == ("360", "0.28")
    [rows] = page.table("device_slowdown", "3G (1.1 Mbit/s)")
    assert [row[0] for row in rows] == ["1", "2", "5", "7.5 (assumed)", "10", "20"]


@pytest.mark.usefixtures("no_drawing")
def test_the_provenance_names_run_host_samples_and_spread(tmp_path):
    write_run(tmp_path / "runs", latency_run())
    result = example_selection()
    page = report_of(tmp_path, result)
    [rows] = page.table("run", RUN)
    row = dict(rows)
    assert row["host"] == "workstation7, Example 9000, 2 cores, Linux 6.1"
    assert row["engine"] == "onnxruntime 1.31.1, 1 thread, 100 rounds after 10"
    assert (row["parts"], row["samples per part"]) == (str(len(result.rows)), "100")
    assert re.fullmatch(r"median \d\.\d, largest \d\.\d", row["cv %"])
    [parts] = page.table("part", "median ms", "samples")
    assert len(parts) == len(result.rows)


@pytest.mark.usefixtures("no_drawing")
def test_a_run_whose_file_is_missing_is_said_to_be_unknown(tmp_path):
    page = report_of(tmp_path, example_selection())
    [rows] = page.table("run", RUN)
    assert dict(rows)["host"] == f"runs/{RUN}.json is missing"
    assert "a machine whose latency runs are not here" in page.text
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / f"{RUN}.json").write_text("{", encoding="utf-8")
    [rows] = report_of(tmp_path, example_selection()).table("run", RUN)
    assert dict(rows)["host"] == f"runs/{RUN}.json is damaged"
