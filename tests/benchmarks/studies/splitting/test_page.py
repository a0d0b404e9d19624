"""The maps of a page, of candidates whose sums can be done by hand."""

from __future__ import annotations

import pytest
from ways import DEVICE, EDGE, FEATURE, SPLIT

from benchmarks.selection.part_times import Sources, times_of_target
from benchmarks.selection.project_selection import ProjectSelection
from benchmarks.selection.selector import select
from benchmarks.studies.splitting.page import GOODPUTS_BPS, SLOWDOWNS, conclusions, regions_table
from exporter.project.settings import SelectSection


@pytest.fixture
def result() -> ProjectSelection:
    settings = SelectSection(goodput_bps={"3G": 1.1e6}, device_slowdown=5.0)
    selection = select((DEVICE, EDGE, SPLIT, FEATURE), settings.goodput_bps, settings.maximum_loss_points)
    sources = Sources(times_of_target("cpu", [], {}), settings.device_slowdown)
    return ProjectSelection(selection, (), (), settings, "cpu", 0.9, "top1", sources)


def cells(text: str) -> dict[tuple[float, float], str]:
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()[2:]]
    assert [float(row[0].split(" ")[0]) * 1e6 for row in rows] == list(GOODPUTS_BPS)
    return {
        (slowdown, goodput): cell
        for row, goodput in zip(rows, GOODPUTS_BPS, strict=True)
        for slowdown, cell in zip(SLOWDOWNS, row[1:], strict=True)
    }


def test_the_map_names_the_fastest_way_and_its_gain(result: ProjectSelection) -> None:
    # At 0.5 Mbit/s a byte takes 16 us; request and reply add 184 bytes. Device times are those of s = 5.
    found = cells(regions_table(result, bottlenecks=True))
    assert found[5.0, 0.5e6] == "**split 1.61x**"  # 10 / (1 + 200 * 0.016 + 2)
    assert found[2.0, 0.1e6] == "device 0.22x"  # 4 / (0.4 + 200 * 0.08 + 2)
    assert found[50.0, 100e6] == "edge 0.59x"  # (5 + 1000 * 0.00008 + 2) / (10 + 200 * 0.00008 + 2)
    without = cells(regions_table(result, bottlenecks=False))
    assert without[5.0, 0.5e6] == "device 0.79x"  # 10 / (1 + 600 * 0.016 + 2)


def test_the_conclusions_count_the_bold_cells(result: ProjectSelection) -> None:
    maps = [cells(regions_table(result, bottlenecks=one)) for one in (True, False)]
    bold = [{point for point, cell in one.items() if cell.startswith("**split")} for one in maps]
    assert bold[0] - bold[1]
    said = " ".join(conclusions(result)[-1].split())
    assert said == (
        f"Of {len(maps[0])} points of the map a split is fastest at {len(bold[0])} with bottlenecks and at "
        f"{len(bold[1])} without; at {len(bold[0] - bold[1])} only with them."
    )
