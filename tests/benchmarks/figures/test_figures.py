"""The figures: well-formed, the same bytes each time, and what they show is what was measured."""

import functools
import hashlib
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import matplotlib
import pytest
from example_selection import VGG_LAYERS, example_selection

from benchmarks.figures.layers_figure import draw_bytes_and_time, head_ms, layers_in_order
from benchmarks.figures.links_figure import draw_latency, links_figure
from benchmarks.figures.palette import COLOURS, dyed
from benchmarks.figures.report_figure import drawn as drawn_figure
from benchmarks.figures.svg import NARROW, WIDE, ms, printable, render, short_bytes
from benchmarks.report.write import report_figures
from benchmarks.selection.terms import compared
from jetson.errors import CoopexportError

NAMES = (
    "where_splitting_pays", "latency_per_network", "latency_against_goodput", "where_gains_come_from",
    "accuracy_against_latency", "bytes_and_time_per_layer",
)  # fmt: skip
LAYERS, LINKS = "bytes_and_time_per_layer", "latency_per_network"
FAST = {"whole_ms": (0.19, 0.08)}  # all on the device; totals that differ by more than 30 times
SMALL = {"layers": VGG_LAYERS[:2], "settings": {"goodput_bps": {"3G": 1.1e6}}}
KINDS = {"linear": {}, "logarithmic": FAST, "one": {"variants": ("original",)}, "small": SMALL}
HOSTILE = (
    "</text><script>alert(1)</script>",
    "a$b$c$\\frac{",
    'x" onload="y',
    "\x1b[31m\x00\ud800",
    "_hidden",
    "层&amp;",
)


def texts(svg):
    """Return all that an SVG shows as text; raises where it is not well-formed."""
    return ["".join(node.itertext()) for node in ElementTree.fromstring(svg).iter() if node.tag.endswith("}text")]


def svg_of(name, result, layout=WIDE):
    figure = {figure.name: figure for figure in report_figures(result)}[name]
    return render(lambda: figure.draw(layout), name)


@functools.cache
def drawn(name, kind="linear", layout=WIDE):
    """Return one of the usual drawings: each takes a third of a second, and many tests look at the same."""
    return svg_of(name, example_selection(**KINDS[kind]), layout)


@pytest.mark.parametrize("layout", [WIDE, NARROW], ids=["wide", "narrow"])
@pytest.mark.parametrize("name", NAMES)
def test_a_figure_is_a_self_contained_svg(name, layout):
    svg = drawn(name, "small", layout)
    root = ElementTree.fromstring(svg)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert float(root.get("width").removesuffix("pt")) == pytest.approx(72 * layout.width_inches)
    text = svg.decode()
    for forbidden in ("DOCTYPE", "<script", "<image", "<metadata", 'href="http', "url(http", "dc:date"):
        assert forbidden not in text
    references = {part.split('"')[0] for part in text.split("http")[1:]}
    assert references == {"://www.w3.org/1999/xlink", "://www.w3.org/2000/svg"}  # names of formats


def test_the_report_has_these_figures():
    assert tuple(figure.name for figure in report_figures(example_selection())) == NAMES


def test_png_svg_and_table_are_written_of_a_figure_the_same_each_time():
    first, second = (drawn_figure(links_figure(example_selection(**SMALL))) for _ in range(2))
    assert first.files() == second.files()
    assert list(first.files()) == [f"figures/latency_per_network.{kind}" for kind in ("svg", "png", "csv")]
    assert first.png.startswith(b"\x89PNG")
    assert first.wide == drawn(LINKS, "small")
    assert first.narrow != first.wide


def test_colours_of_the_palette_are_the_pages_and_texts_stay():
    ink, paper = COLOURS["ink"][0], COLOURS["paper"][0]
    svg = f'<svg><path style="fill: {ink}; stroke: #123456"/><text>{paper} style="fill: {ink}"</text></svg>'
    assert dyed(svg) == (
        f'<svg><path style="fill: var(--ink, {ink}); stroke: #123456"/><text>{paper} style="fill: {ink}"</text></svg>'
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_page_can_dye_everything_but_the_outlines_of_bars(name):
    text = drawn(name, "small").decode()
    assert set(re.findall(r"(?<!, )#[0-9a-f]{6}", text)) <= {"#333333"}
    used = set(re.findall(r"var\(--([a-z0-9-]+), #[0-9a-f]{6}\)", text))
    assert {"ink", "paper"} <= used <= set(COLOURS)


def test_no_colour_stands_for_two_roles():
    light = [pair[0] for pair in COLOURS.values()]
    assert len(set(light)) == len(light)
    assert all(re.fullmatch("#[0-9a-f]{6}", colour) for pair in COLOURS.values() for colour in pair)


def luminance(colour):
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    """Return the contrast of two colours as WCAG 2.1 defines it."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("tone", [0, 1], ids=["light", "dark"])
def test_texts_and_lines_stand_out_from_the_paper(tone):
    colour = {role: pair[tone] for role, pair in COLOURS.items()}
    for ground in ("paper", "band", "way-device", "way-split", "way-edge"):
        assert contrast(colour["ink"], colour[ground]) >= 4.5, ground  # WCAG 2.1, 1.4.3: text
    assert contrast(colour["muted"], colour["paper"]) >= 4.5
    for number in range(1, 6):
        assert contrast(colour[f"series-{number}"], colour["paper"]) >= 3.0, number  # 1.4.11: graphics


def test_no_identifier_is_used_twice_in_one_page():
    figures = [drawn_figure(figure) for figure in report_figures(example_selection(**SMALL))[:2]]
    drawings = [svg for figure in figures for svg in (figure.wide, figure.narrow)]
    nodes = [node for svg in drawings for node in ElementTree.fromstring(svg).iter()]
    names = [node.get("id") for node in nodes if node.get("id") is not None]
    assert names and len(names) == len(set(names))


def test_every_layer_variant_and_input_is_named_in_the_first_figure():
    shown = texts(drawn(LAYERS))
    assert set(VGG_LAYERS) <= set(shown)
    for name in ("variant original", "variant pruned", "raw image (3.1k)", "JPEG image, quality 90 (1.3k)"):
        assert name in shown


def test_every_link_baseline_and_choice_is_named_in_the_second_figure():
    shown = texts(drawn(LINKS))
    for name in ("3G, 1.1 Mbit/s", "4G, 5.85 Mbit/s", "WiFi, 18.88 Mbit/s", "transmission", "edge only raw, original",
                 "device only, pruned", "edge only coded, pruned *", "best split, original (pool2)",
                 "chosen: pruned, cut after pool2", "chosen: pruned, cut after pool1"):  # fmt: skip
        assert name in shown
    assert any("as fast as the best unsplit" in text for text in shown)
    assert "(* left out, see the table)" in shown


def test_a_choice_without_a_split_says_so_in_the_figure():
    shown = texts(drawn(LINKS, "logarithmic"))
    assert sum("splitting gains nothing" in text for text in shown) == 3
    assert "chosen: pruned, all on the device" in shown
    assert any("logarithmic: terms divide a bar by their shares" in text for text in shown)


def test_bars_are_the_mean_payloads_and_lines_the_medians_of_the_heads():
    result = example_selection(without=[("pruned", "conv4_1", "head")])
    above, below = draw_bytes_and_time(result).axes
    heights = [patch.get_height() for patch in above.patches]
    assert heights == [split.payload_bytes.mean for item in result.variants for split in item.splits]
    assert above.get_yscale() == "log"
    lines = {line.get_ydata()[0] for line in above.lines}
    assert lines == {item.payload_bytes.mean for item in result.variants[0].whole.inputs.values()}
    for line, item in zip(below.lines, result.variants, strict=True):
        rows = {row.layer: row.p50_ms for row in result.rows if row.part == "head" and row.variant == item.variant}
        assert list(line.get_ydata()) == [rows[split.layer] for split in item.splits if split.layer in rows]
    assert VGG_LAYERS.index("conv4_1") not in below.lines[1].get_xdata()
    assert below.get_ylim()[0] == 0


def test_a_head_measured_on_an_older_graph_is_not_shown():
    result = example_selection()
    rows = tuple(replace(row, source_sha256="older") if row.layer == "pool1" else row for row in result.rows)
    shown = head_ms(replace(result, rows=rows))
    assert ("pruned", "pool1") not in shown
    assert len(shown) == 34


@pytest.mark.parametrize("options", [{}, FAST], ids=["linear", "logarithmic"])
def test_bars_end_at_the_latency_and_are_divided_by_the_terms(options):
    result = example_selection(**options)
    figure = draw_latency(result)
    logarithmic = figure.axes[0].get_xscale() == "log"
    assert logarithmic == (options == FAST)
    for axes, choice in zip(figure.axes, result.selection.links, strict=True):
        bars = [patch for container in axes.containers for patch in container]
        entries = compared(result.selection, choice)
        assert len(bars) == 3 * len(entries)
        for entry, device, transmission, edge in zip(entries, bars[::3], bars[1::3], bars[2::3], strict=True):
            assert edge.get_x() + edge.get_width() == pytest.approx(entry.terms.total_ms)
            if not logarithmic:
                assert device.get_width() == pytest.approx(entry.terms.device_ms)
                assert transmission.get_width() == pytest.approx(entry.terms.transmission_ms)
                assert edge.get_width() == pytest.approx(entry.terms.edge_ms)
        assert axes.get_xlim()[1] > max(entry.terms.total_ms for entry in entries)


def test_layers_of_all_variants_come_in_network_order():
    result = example_selection()
    original, pruned = result.variants
    some = replace(pruned, splits=tuple(split for split in pruned.splits if split.layer != "conv3_1"))
    assert layers_in_order(replace(result, variants=(original, some))) == list(VGG_LAYERS)
    assert layers_in_order(replace(result, variants=(some, original))) == list(VGG_LAYERS)


@pytest.mark.parametrize("count", [0, 60])
def test_few_and_many_layers_can_be_drawn(count):
    result = example_selection(layers=[f"layer{number}" for number in range(count)])
    assert {f"layer{number}" for number in range(count)} <= set(texts(svg_of(LAYERS, result)))
    ElementTree.fromstring(svg_of(LINKS, result, NARROW))


@pytest.mark.filterwarnings("ignore:Glyph .* missing from font:UserWarning")
def test_hostile_names_stay_text():
    result = example_selection(
        layers=HOSTILE, settings={"goodput_bps": {HOSTILE[0]: 1e6, HOSTILE[1]: 2e6}}, target=HOSTILE[3]
    )
    drawings = {name: svg_of(name, result) for name in NAMES}
    for svg in drawings.values():
        assert "<script" not in svg.decode()
        assert not [node for node in ElementTree.fromstring(svg).iter() if "onload" in node.attrib]
    shown = texts(drawings[LAYERS])
    for name in (HOSTILE[0], HOSTILE[1], HOSTILE[2], HOSTILE[4], HOSTILE[5], "\ufffd[31m\ufffd\ufffd"):
        assert name in shown
    assert f"{HOSTILE[1]}, 2 Mbit/s" in texts(drawings[LINKS])


def test_long_names_keep_both_ends():
    name = "features_denseblock1_denselayer1_" + "x" * 60 + "_conv2"
    shown = texts(svg_of(LAYERS, example_selection(layers=[name])))
    label = next(text for text in shown if "…" in text)
    assert len(label) < 40 and label.startswith("features") and label.endswith("conv2")


def test_a_users_style_changes_nothing_and_is_left_alone():
    result = example_selection(**SMALL)
    expected = drawn(LINKS, "small")
    with matplotlib.rc_context({"font.size": 30, "svg.hashsalt": "mine", "axes.facecolor": "red"}):
        before = dict(matplotlib.rcParams)
        assert svg_of(LINKS, result) == expected
        assert dict(matplotlib.rcParams) == before


def test_another_process_draws_the_same_without_pyplot():
    script = (
        "import hashlib, sys\nfrom example_selection import example_selection\n"
        "from benchmarks.figures.links_figure import links_figure\nfrom benchmarks.figures.svg import WIDE, render\n"
        "assert 'matplotlib' not in sys.modules\nfigure = links_figure(example_selection(layers=['a']))\n"
        "svg = render(lambda: figure.draw(WIDE), figure.name)\n"
        "assert 'matplotlib.pyplot' not in sys.modules\nprint(hashlib.sha256(svg).hexdigest())"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    finished = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120, env=environment
    )
    assert finished.returncode == 0, finished.stderr
    expected = hashlib.sha256(svg_of(LINKS, example_selection(layers=["a"]))).hexdigest()
    assert finished.stdout.strip() == expected


@pytest.mark.parametrize("name", NAMES)
def test_without_matplotlib_the_extra_is_named(name, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(CoopexportError, match=r"pip install 'coopexport\[report\]'"):
        svg_of(name, example_selection())


@pytest.mark.parametrize(
    "value, text", [(0.0, "0"), (35.4, "35"), (999.0, "999"), (1000.0, "1k"), (8538.7, "8.5k"), (150528.0, "151k"),
                    (3.2e6, "3.2M")]
)  # fmt: skip
def test_short_bytes(value, text):
    assert short_bytes(value) == text


@pytest.mark.parametrize("value, text", [(0.0123, "0.012"), (1.234, "1.23"), (12.34, "12.3"), (1234.5, "1234")])
def test_milliseconds_have_three_digits(value, text):
    assert ms(value) == text


def test_printable_keeps_letters_of_all_scripts():
    assert printable("conv4_1 β 层") == "conv4_1 β 层"
