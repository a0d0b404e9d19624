"""The paper's story with our times: sums by hand on made cells, and one real cut of a small network."""

from __future__ import annotations

import pytest
import torch

from benchmarks.selection.selector import INPUT, OUTPUT
from benchmarks.studies.paper.networks import example_images, random_vgg
from benchmarks.studies.paper.published import ORIGINAL, STEP2, PublishedModel
from benchmarks.studies.paper.two_step import picture_bytes
from benchmarks.studies.paper.two_step_cells import Cell, Measured, cut_layers, measure
from benchmarks.studies.paper.two_step_page import (
    SWEEP_BPS,
    candidates_of,
    choices,
    claims_table,
    explanations,
    page,
    sweep_table,
    transmission_ratios,
)
from exporter.layers.export import export

NARROW = STEP2[7]  # conv4_1
PICTURE_BYTES = 3077


@pytest.fixture
def measured() -> Measured:
    cells = (
        Cell("original", "conv4_1", 8192, 8197, 3.0, 0.1, 0.2, 2.0),
        Cell("step 1", "conv4_1", 1888, 1893, 0.5, 0.1, 0.1, 0.3),
        Cell(NARROW.name, "conv4_1", 352, 357, 0.4, 0.1, 0.1, 0.2),
    )
    return Measured(cells, {"original": 5.0, "step 1": 0.8, NARROW.name: 0.6}, 8, 24)


def test_the_terms_are_the_devices_the_links_and_the_edges(measured: Measured) -> None:
    cut = {
        item.variant: item
        for item in candidates_of(measured, PICTURE_BYTES, "steps 1 and 2")
        if item.layer == "conv4_1"
    }
    assert cut[NARROW.name].device_ms == pytest.approx(5 * 0.5)
    assert cut[NARROW.name].edge_ms == pytest.approx(0.3)
    # A byte takes 8 / 1.1e6 s on 3G.
    by_link = {(item.link, item.family): item for item in choices(measured, PICTURE_BYTES)}
    original, both = by_link["3G", "original"], by_link["3G", "steps 1 and 2"]
    assert (original.candidate.layer, original.terms.total_ms) == (OUTPUT, 25.0)
    assert both.candidate.layer == OUTPUT
    assert both.terms.total_ms == pytest.approx(4.0)  # below 2.5 + 357 * 8 / 1100 + 0.3
    wifi = by_link["WiFi", "original"]
    assert wifi.candidate.layer == INPUT
    assert wifi.terms.total_ms == pytest.approx(3077 * 8 / 18880 + 5.0)


def test_a_network_of_step_2_is_not_run_uncut(measured: Measured) -> None:
    ways = candidates_of(measured, PICTURE_BYTES, "steps 1 and 2")
    assert {item.layer for item in ways if item.variant == NARROW.name} == {"conv4_1"}
    assert {item.variant for item in candidates_of(measured, PICTURE_BYTES, "original")} == {"original"}
    assert {item.variant for item in candidates_of(measured, PICTURE_BYTES, "step 1")} == {"step 1"}


def test_ratios_stand_beside_what_is_claimed(measured: Measured) -> None:
    assert transmission_ratios(measured) == {"conv4_1": pytest.approx(8192 / 352)}
    text = claims_table(measured, choices(measured, PICTURE_BYTES))
    assert "| 25.6x | 23.3x after conv4_1 |" in text
    assert "| 6.01x | 6.25x |" in text
    assert "| end to end, 3G | – | 6.25x |" in text


def test_a_gain_without_a_cut_is_called_that_of_a_smaller_network(measured: Measured) -> None:
    lines = explanations(choices(measured, PICTURE_BYTES))
    assert lines[0] == (
        "3G: 25.00 ms (original, all on the device) become 4.00 (step 1, all on the device): 21.00 ms less "
        "on the device. Step 2 adds 1.00x to step 1's 6.25x. The pruned network is "
        "not cut here: the gain is that of a smaller network, not of cooperation."
    )


def test_the_sweep_is_bytes_over_goodput(measured: Measured) -> None:
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in sweep_table(measured, PICTURE_BYTES).splitlines()
    ]
    assert len(rows) == 2 + len(SWEEP_BPS)
    assert rows[2] == ["100", "25.00", f"{3077 * 8 / 100 + 5:.2f}"]
    assert rows[-1] == ["3500", "25.00", f"{3077 * 8 / 3500 + 5:.2f}"]


def test_the_page_says_all_of_it(measured: Measured) -> None:
    text = page(measured, PICTURE_BYTES)
    assert "of the original: 1.00 to 1.00 times its 5.00 ms; of step 1: 1.00 to 1.00 times its 0.80 ms" in " ".join(
        text.split()
    )
    assert "| conv4_1 | 8,197 | 1,893 | 357 | 3.100 + 2.200 | 0.600 + 0.400 | 0.500 + 0.300 |" in text


def test_a_network_is_cut_where_the_paper_cuts_it() -> None:
    graph = export(random_vgg((4,) * 13), example_images(4))
    names = [layer.name.split(".")[-1] for layer in cut_layers(ORIGINAL, graph.layers)]
    assert (len(names), names[:3], names[-1]) == (18, ["conv1_1", "conv1_2", "pool1"], "pool5")
    assert [layer.name.split(".")[-1] for layer in cut_layers(STEP2[0], graph.layers)] == ["conv1_1"]
    assert [layer.name.split(".")[-1] for layer in cut_layers(STEP2[1], graph.layers)] == ["conv1_2", "pool1"]


def test_real_pairs_are_timed_and_their_messages_counted() -> None:
    torch.manual_seed(0)
    widths = (4,) * 13
    small = PublishedModel("step 2 at conv4_1", widths, "conv4_1")
    found = measure([(small, random_vgg(widths))], example_images(4), rounds=2, runs=2)
    (cell,) = found.cells
    assert (cell.layer, cell.elements) == ("conv4_1", 4 * 4 * 4)
    assert 0 < cell.payload_bytes - cell.elements <= 8  # the message's own
    assert min(cell.head_ms, cell.encode_ms, cell.decode_ms, cell.tail_ms, found.whole_ms[small.name]) > 0


def test_an_image_is_sent_as_its_pixels() -> None:
    assert 0 < picture_bytes() - 3 * 32 * 32 <= 8
