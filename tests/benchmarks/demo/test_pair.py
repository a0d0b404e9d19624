"""The running pair is as good as its bundle says, and its latency is the selection's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from example_variants import step2

from benchmarks.demo.pair import narrowest, predict_latencies, run_pair, strongest_bottleneck, where_it_pays
from exporter.bundles.bundle import read_split
from exporter.project.settings import Project, load_project
from exporter.variants.record import write_variant_record
from jetson.runtime.partition_policy import read_partition_policy


@pytest.fixture
def project(split_project: Path) -> Project:
    """The split project; not to be written into."""
    return load_project(split_project / "coopexport.toml")


def test_the_pair_of_the_original_loses_what_its_bundle_says(project: Project) -> None:
    result = run_pair(project, "original", "conv4_1")
    bundle = read_split(project.variant_folder("original"), "conv4_1")
    assert result.metric == bundle.metric.model_copy(update={"data": None, "data_sha256": None})
    assert result.bytes_per_image == pytest.approx(bundle.payload_bytes.mean)


def test_latencies_are_those_of_the_plan(project: Project) -> None:
    result = run_pair(project, "original", "pool3")  # keeps the bound: the best is none slower
    predicted = predict_latencies(project, result)
    plan = read_partition_policy(str(project.output / "plan.json"))
    assert [item.link for item in predicted] == list(project.settings.select.goodput_bps)
    (pair,) = (item for item in plan.candidates if (item["variant"], item["layer"]) == ("original", "pool3"))
    for item, link in zip(predicted, plan.content["links"], strict=True):
        transmission_ms = 8000 * pair["wire_bytes"] / link["goodput_bps"]
        assert item.pair_ms == pytest.approx(pair["device_ms"] + transmission_ms + pair["edge_ms"])
        assert link["latency_ms"] <= min(item.pair_ms, item.device_ms, item.edge_ms)
        assert item.best.layer == plan.candidates[link["candidate"]]["layer"]
        for layer, least in (("output", item.device_ms), ("input", item.edge_ms)):
            uncut = [one for one in plan.candidates if one["layer"] == layer and not one.get("reason")]
            bits = 8 / link["goodput_bps"]
            found = [one["device_ms"] + one["edge_ms"] + 1000 * bits * one["wire_bytes"] for one in uncut]
            assert least == pytest.approx(min(found))
        assert item.gain == min(item.device_ms, item.edge_ms) / item.pair_ms


def test_without_a_bottleneck_there_is_no_strongest(project: Project) -> None:
    assert strongest_bottleneck(project) is None


def test_the_narrowest_keeps_the_bound(finished_project: Path) -> None:
    project = load_project(finished_project / "coopexport.toml")
    assert narrowest(project, "conv4_1") == "step1"
    for number, (layer, width, right) in enumerate(
        (("conv4_1", 8, 985), ("conv4_1", 4, 980), ("conv4_1", 2, 960), ("conv3_3", 1, 985)), start=1
    ):
        record = step2(layer, width, number, right)
        folder = project.variant_folder(record.variant)
        write_variant_record(folder, record)
        (folder / "shrink.json").write_bytes((project.variant_folder("pruned") / "shrink.json").read_bytes())
    assert project.settings.select.maximum_loss_points == 1.0
    assert narrowest(project, "conv4_1") == "conv4_1-4"  # 0.6 points lost; the next loses 2.6
    assert narrowest(project, "conv5_1") == "step1"


def test_a_split_pays_most_where_no_other_goodput_gains_more(project: Project) -> None:
    found = where_it_pays(project)
    plan = read_partition_policy(str(project.output / "plan.json"))

    def least_ms(goodput_bps: float, layers: Callable[[str], bool]) -> float:
        return min(
            one["device_ms"] + 8000 * one["wire_bytes"] / goodput_bps + one["edge_ms"]
            for one in plan.candidates
            if layers(one["layer"]) and not one.get("reason")
        )

    def gain(goodput_bps: float) -> float:
        uncut = least_ms(goodput_bps, lambda layer: layer in ("input", "output"))
        return uncut / least_ms(goodput_bps, lambda layer: layer not in ("input", "output"))

    assert found.gain == pytest.approx(gain(found.goodput_bps))
    assert found.gain >= max(map(gain, (1e5, 3e5, 1e6, 3e6, 1e7, 3e7, 1e8))) * 0.99  # between the goodputs asked
