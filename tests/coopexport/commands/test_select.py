"""What select prints: the choice on each link below what it is compared with."""

from __future__ import annotations

from example_selection import example_selection
from example_variants import two_step_selection

from benchmarks.selection.selector import describe
from coopexport.commands.select import result_rows


def test_the_printed_table_says_what_was_selected() -> None:
    result = example_selection(("conv1_1", "pool3", "conv4_1"))
    rows = result_rows(result)
    chosen = [row for row in rows if row[1] == "chosen"]
    assert len(chosen) == len(result.selection.links) == 3
    for row, choice in zip(chosen, result.selection.links, strict=True):
        assert row[2] == describe(result.selection.candidates[choice.candidate])
        assert row[5] == f"{choice.latency_ms:.3f}"
    assert [row[0] for row in rows if row[0]] == ["3G 1.1 Mbit/s", "4G 5.85 Mbit/s", "WiFi 18.88 Mbit/s"]
    kinds = {describe(candidate) for candidate in result.selection.candidates if candidate.variant == "pruned"}
    assert "pruned, all on the device" in kinds
    # The better of the two.
    assert any(kind.startswith(f"pruned, all on the edge ({codec} q") for kind in kinds for codec in ("jpeg", "webp"))
    assert "pruned, cut after conv4_1 (8-bit zlib-huffman)" in kinds


def test_the_table_says_which_of_a_family_it_is() -> None:
    rows = {(row[1], row[2]) for row in result_rows(two_step_selection())}
    assert ("device only, original", "") in rows
    assert any(name == "device only, step 2" and "all on the device" in which for name, which in rows)
