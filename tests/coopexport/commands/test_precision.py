"""`coopexport precision` as a user runs it: what it prints, what it leaves, and its refusals."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests_support import files_below

from exporter.bundles.precision_file import read_precision


def test_pairs_and_whole_are_written_in_both_precisions(finished_project: Path, coopexport: Callable[..., Any]) -> None:
    options = ("--variant", "pruned", "--layer", "conv4_1", "--whole", "--maximum-loss", "3")
    before = files_below(finished_project / "out" / "pruned")
    result = coopexport(finished_project, "precision", *options)
    assert result.code == 0, result.errors
    folder = finished_project / "out" / "pruned"
    made = {name for name in files_below(folder) - before if not name.startswith("weights/")}
    assert made == {
        name.format(precision)
        for precision in ("fp16", "int8")
        for name in ("conv4_1.{}.json", "conv4_1.{}.golden.npz", "conv4_1.head.{}.onnx", "conv4_1.tail.{}.onnx",
                     "whole.{}.json", "whole.{}.golden.npz", "whole.{}.onnx")
    }  # fmt: skip
    for precision in ("fp16", "int8"):
        record = read_precision(folder, "conv4_1", precision)
        float32_layers = sum(len(role.float32_layers) for role in record.roles.values())
        line = next(line for line in result.output.splitlines() if f"conv4_1   │ {precision}" in line)
        assert f"│ {float32_layers:4} │" in line
        assert f"{100 * record.against_float32.value:.2f}" in line
        assert result.output.count("stays fp32") >= float32_layers
    again = coopexport(finished_project, "precision", *options)
    assert again.output == result.output


def test_sensitivity_lists_every_layer_and_writes_nothing(
    finished_project: Path, coopexport: Callable[..., Any]
) -> None:
    before = files_below(finished_project / "out")
    options = ("--variant", "original", "--layer", "conv4_1", "--precision", "int8", "--sensitivity", "--images", "40")
    result = coopexport(finished_project, "precision", *options)
    assert result.code == 0, result.errors
    assert files_below(finished_project / "out") == before
    rows = [line.split("│") for line in result.output.splitlines() if "│" in line]
    named = [(row[0].strip(), row[1].strip()) for row in rows]
    convolutions = [
        f"conv{block}_{index}" for block, count in enumerate((2, 2, 3, 3, 3), 1) for index in range(1, count + 1)
    ]
    assert sorted(named) == sorted(
        [(layer, "head" if layer <= "conv4_1" else "tail") for layer in convolutions] + [("classifier", "tail")]
    )
    errors = [float(row[3].strip().removesuffix(" %")) for row in rows]
    assert errors == sorted(errors, reverse=True)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "say what to convert"),
        (("--layer", "conv9"), 'there is no layer "conv9"'),
        (("--layer", "conv1_1"), "there is no split bundle"),
        (("--layer", "conv4_1", "--keep", "conv9"), 'there is no layer "conv9"'),
        (("--layer", "conv4_1", "--ranges", "percentile", "--percentile", "40"), "percentile 40.0 is not above 50"),
        (("--layer", "conv4_1", "--precision", "int4"), "int4"),
    ],
)
def test_wrong_wishes_are_refused_in_one_line(
    split_project: Path, coopexport: Callable[..., Any], options: tuple[str, ...], said: str
) -> None:
    result = coopexport(split_project, "precision", "--variant", "original", *options)
    assert result.code == 2
    assert len(result.error_lines) == 1
    assert said in result.error_lines[0]
