"""The part of the report about pruning in two steps: what step 2 adds to step 1, apart from training longer."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.report.html import folded, heading, paragraph, table
from benchmarks.report.summary import link_name
from benchmarks.selection.project_selection import ProjectSelection
from benchmarks.selection.selector import describe
from benchmarks.selection.step_gains import Best, EqualTraining, equal_training, step_gains
from exporter.bundles.accuracy_bound import keeps_bound

_GAIN_NUMBERS = ("original ms", "with step 1 ms", "with step 2 ms", "step 1 adds", "step 2 adds")
_TRAINING_COLUMNS = (
    "variant", "control", "images since step 1", "MACs less", "of the control", "of step 2", "difference points",
    "95 % interval", "says",
)  # fmt: skip


def steps(result: ProjectSelection) -> list[str]:
    """Return both sections as HTML; nothing where no variant comes from pruning in two steps."""
    if not result.records:
        return []
    return [*_gains(result), *_equal_training(result)]


def _gains(result: ProjectSelection) -> list[str]:
    rows = []
    for gain in step_gains(result.selection):
        bests = (gain.original, gain.with_step1, gain.with_step2)
        rows.append(
            [
                link_name(gain.link),
                "that split" if gain.split else "all",
                *(_ms(best) for best in bests),
                *(_times(ratio) for ratio in (gain.step1_adds, gain.step2_adds)),
                "–" if gain.with_step2 is None else describe(result.selection.candidates[gain.with_step2.candidate]),
            ]
        )
    return [
        heading("What each step adds"),
        paragraph(
            "The best end-to-end latency within the accuracy bound: of the original alone; with step 1 and its "
            "controls, which were trained on without pruning; and with step 2 as well. What a step adds is how many "
            "times as fast the best is with it. A network that was pruned elsewhere is in none of the columns. The "
            "bound was judged on the same images for all variants: the more there are, the more keep it by chance."
        ),
        folded(
            "What each step adds, in numbers",
            table(["link", "candidates", *_GAIN_NUMBERS, "best with step 2"], rows, _GAIN_NUMBERS),
        ),
    ]


def _ms(best: Best | None) -> str:
    return "none" if best is None else f"{best.latency_ms:.3f}"


def _times(ratio: float | None) -> str:
    return "–" if ratio is None else f"{ratio:.2f}×"


def _equal_training(result: ProjectSelection) -> list[str]:
    pairs, alone = equal_training(result.records)
    bound = result.settings.maximum_loss_points
    within = [pair for pair in pairs if keeps_bound(pair.variant.metric.loss_points, bound)]
    others = [pair for pair in pairs if not keeps_bound(pair.variant.metric.loss_points, bound)]
    parts = [
        heading("Equal fine-tuning"),
        paragraph(
            "Each variant of step 2 beside its control: step 1 trained on for as many images without pruning, so that "
            f"training longer is not taken for what pruning does. Differences of {result.metric} of the exported "
            "networks on the same images, in points, with their 95 % intervals from the images where the two disagree "
            "(Agresti & Min 2005). Of a hundred such intervals about five miss by chance."
        ),
    ]
    if within:
        parts.append(folded(f"Within the accuracy bound: {len(within)}", _training_table(within)))
    if others:
        parts.append(folded(f"Beyond the accuracy bound: {len(others)}", _training_table(others)))
    if alone:
        names = table(["variant"], [[record.variant] for record in alone], compact=True)
        parts.append(folded(f"Without a control of as many images, and so not compared: {len(alone)}", names))
    return parts


def _training_table(pairs: Sequence[EqualTraining]) -> str:
    rows = [_training_row(pair) for pair in pairs]
    return table(_TRAINING_COLUMNS, rows, _TRAINING_COLUMNS[2:8], compact=True)


def _training_row(pair: EqualTraining) -> list[str]:
    variant, control, found = pair.variant, pair.control, pair.difference
    points = 100 * (variant.metric.value - control.metric.value)
    return [
        variant.variant,
        control.variant,
        f"{variant.training['images_since_step1']:,}",
        f"{control.macs / variant.macs:.2f}×" if variant.macs else "–",
        f"{100 * control.metric.value:.2f}",
        f"{100 * variant.metric.value:.2f}",
        f"{points:+.2f}",
        "–" if found is None else f"{100 * found.low:+.2f} to {100 * found.high:+.2f}",
        _verdict(pair),
    ]


def _verdict(pair: EqualTraining) -> str:
    """Return what the interval says: it is the whole of the evidence."""
    if pair.difference is None:
        return "not known image by image"
    if pair.difference.low > 0:
        return "higher"
    return "lower" if pair.difference.high < 0 else "not told apart"
