"""The figures: well-formed, the same bytes each time, and what they show is what was measured."""

import functools
import hashlib
import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import matplotlib
import pytest
from example_selection import VGG_LAYERS, example_selection

from benchmarks.report.figures import (
    bytes_and_time_per_layer,
    draw_bytes_and_time,
    draw_latency,
    head_ms,
    latency_per_network,
    layers_in_order,
)
from benchmarks.report.svg import ms, printable, short_bytes
from benchmarks.selection.terms import compared
from jetson.errors import CoopexportError

FIGURES = [bytes_and_time_per_layer, latency_per_network]
FAST = {"whole_ms": (0.19, 0.08)}  # all on the device; totals that differ by more than 30 times
KINDS = {"linear": {}, "logarithmic": FAST, "one": {"variants": ("original",)}}
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


@functools.cache
def drawn(figure, kind="linear"):
    """Return one of the usual drawings: each takes half a second, and many tests look at the same."""
    return figure(example_selection(**KINDS[kind]))


@pytest.mark.parametrize("figure", FIGURES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_figure_is_a_self_contained_svg_and_the_same_each_time(figure, kind):
    svg = drawn(figure, kind)
    root = ElementTree.fromstring(svg)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert svg == figure(example_selection(**KINDS[kind]))
    text = svg.decode()
    for forbidden in ("DOCTYPE", "<script", "<image", "<metadata", 'href="http', "url(http", "dc:date"):
        assert forbidden not in text
    references = {part.split('"')[0] for part in text.split("http")[1:]}
    assert references == {"://www.w3.org/1999/xlink", "://www.w3.org/2000/svg"}  # names of formats


def test_no_identifier_is_used_twice_in_one_page():
    nodes = [node for figure in FIGURES for node in ElementTree.fromstring(drawn(figure)).iter()]
    names = [node.get("id") for node in nodes if node.get("id") is not None]
    assert names and len(names) == len(set(names))


def test_every_layer_variant_and_input_is_named_in_the_first_figure():
    shown = texts(drawn(bytes_and_time_per_layer))
    assert set(VGG_LAYERS) <= set(shown)
    for name in ("variant original", "variant pruned", "raw image (3.1k)", "JPEG image, quality 90 (1.3k)"):
        assert name in shown


def test_every_link_baseline_and_choice_is_named_in_the_second_figure():
    shown = texts(drawn(latency_per_network))
    for name in ("3G, 1.1 Mbit/s", "4G, 5.85 Mbit/s", "WiFi, 18.88 Mbit/s", "transmission", "edge only raw, original",
                 "device only, pruned", "edge only coded, pruned *", "best split, original (pool2)",
                 "chosen: pruned, cut after pool2", "chosen: pruned, cut after pool1"):  # fmt: skip
        assert name in shown
    assert any("as fast as the best unsplit" in text for text in shown)
    assert "(* left out, see the table)" in shown


def test_a_choice_without_a_split_says_so_in_the_figure():
    shown = texts(drawn(latency_per_network, "logarithmic"))
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


@pytest.mark.parametrize("count", [0, 1, 60])
def test_few_and_many_layers_can_be_drawn(count):
    result = example_selection(layers=[f"layer{number}" for number in range(count)])
    assert {f"layer{number}" for number in range(count)} <= set(texts(bytes_and_time_per_layer(result)))
    ElementTree.fromstring(latency_per_network(result))


@pytest.mark.filterwarnings("ignore:Glyph .* missing from font:UserWarning")
def test_hostile_names_stay_text():
    result = example_selection(
        layers=HOSTILE, settings={"goodput_bps": {HOSTILE[0]: 1e6, HOSTILE[1]: 2e6}}, target=HOSTILE[3]
    )
    for figure in FIGURES:
        svg = figure(result)
        assert "<script" not in svg.decode()
        assert not [node for node in ElementTree.fromstring(svg).iter() if "onload" in node.attrib]
    shown = texts(bytes_and_time_per_layer(result))
    for name in (HOSTILE[0], HOSTILE[1], HOSTILE[2], HOSTILE[4], HOSTILE[5], "\ufffd[31m\ufffd\ufffd"):
        assert name in shown
    assert f"{HOSTILE[1]}, 2 Mbit/s" in texts(latency_per_network(result))


def test_long_names_keep_both_ends():
    name = "features_denseblock1_denselayer1_" + "x" * 60 + "_conv2"
    shown = texts(bytes_and_time_per_layer(example_selection(layers=[name])))
    label = next(text for text in shown if "…" in text)
    assert len(label) < 40 and label.startswith("features") and label.endswith("conv2")


def test_a_users_style_changes_nothing_and_is_left_alone():
    result = example_selection()
    expected = drawn(latency_per_network)
    with matplotlib.rc_context({"font.size": 30, "svg.hashsalt": "mine", "axes.facecolor": "red"}):
        before = dict(matplotlib.rcParams)
        assert latency_per_network(result) == expected
        assert dict(matplotlib.rcParams) == before


def test_another_process_draws_the_same_without_pyplot():
    script = (
        "import hashlib, sys\nfrom example_selection import example_selection\n"
        "from benchmarks.report.figures import bytes_and_time_per_layer, latency_per_network\n"
        "assert 'matplotlib' not in sys.modules\nresult = example_selection()\n"
        "svg = bytes_and_time_per_layer(result) + latency_per_network(result)\n"
        "assert 'matplotlib.pyplot' not in sys.modules\nprint(hashlib.sha256(svg).hexdigest())"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    finished = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120, env=environment
    )
    assert finished.returncode == 0, finished.stderr
    expected = hashlib.sha256(drawn(bytes_and_time_per_layer) + drawn(latency_per_network)).hexdigest()
    assert finished.stdout.strip() == expected


@pytest.mark.parametrize("figure", FIGURES)
def test_without_matplotlib_the_extra_is_named(figure, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(CoopexportError, match=r"pip install 'coopexport\[report\]'"):
        figure(example_selection())


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
