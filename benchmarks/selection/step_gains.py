"""What each step of pruning adds: the best latency with and without it, and accuracies after equal training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.selection.selector import Candidate, LinkChoice, Selection, latency_ms
from benchmarks.selection.terms import is_split
from calibration.metrics.confidence import PairedDifference, compare_right
from exporter.variants.plans import ORIGINAL
from exporter.variants.record import VariantRecord

STEP1, STEP2 = "step 1", "step 2"


@dataclass(frozen=True)
class Best:
    """The fastest candidate on a link, by its number, and its end-to-end latency."""

    candidate: int
    latency_ms: float


@dataclass(frozen=True)
class StepGain:
    """The best on one link: of the original alone, with step 1 as well, and with step 2 as well; None for none.

    `split`: only candidates that compute on both machines were asked.
    """

    link: LinkChoice
    split: bool
    original: Best | None
    with_step1: Best | None
    with_step2: Best | None

    @property
    def step1_adds(self) -> float | None:
        """How many times as fast the best is with step 1; None where one of the two is missing."""
        return _ratio(self.original, self.with_step1)

    @property
    def step2_adds(self) -> float | None:
        """How many times as fast the best is with step 2 on top of step 1; None where one of the two is missing."""
        return _ratio(self.with_step1, self.with_step2)


def step_gains(selection: Selection) -> list[StepGain]:
    """Return the gains on every link, over all candidates within the bound, then over those that split."""
    return [_gain(selection, link, split) for split in (False, True) for link in selection.links]


def _gain(selection: Selection, link: LinkChoice, split: bool) -> StepGain:
    families = (ORIGINAL, STEP1, STEP2)
    bests = [_best(selection.candidates, families[:count], link, split) for count in (1, 2, 3)]
    return StepGain(link, split, *bests)


def _best(candidates: Sequence[Candidate], families: Sequence[str], link: LinkChoice, split: bool) -> Best | None:
    times_ms = {
        index: latency_ms(candidate, link.goodput_bps, link.round_trip_ms)
        for index, candidate in enumerate(candidates)
        if candidate.compared_as in families and not candidate.reason and (is_split(candidate) or not split)
    }
    if not times_ms:
        return None
    index = min(times_ms, key=lambda i: (times_ms[i], candidates[i].loss_points))
    return Best(index, times_ms[index])


def _ratio(slower: Best | None, faster: Best | None) -> float | None:
    if slower is None or faster is None or faster.latency_ms <= 0:
        return None
    return slower.latency_ms / faster.latency_ms


@dataclass(frozen=True)
class EqualTraining:
    """A variant of step 2 beside step 1 trained on for as many images, without pruning.

    `difference`: in fractions of all images, this minus control, on the same images; None where they are not known
    image by image.
    """

    variant: VariantRecord
    control: VariantRecord
    difference: PairedDifference | None


def equal_training(records: Sequence[VariantRecord]) -> tuple[list[EqualTraining], list[VariantRecord]]:
    """Return every variant of step 2 with its control, and those that have none.

    The control is of the same series, `images_since_step1`, metric and evaluation data; after no images, step 1 itself.
    """
    controls = {_key(record): record for record in records if record.step in ("step1", "control")}
    pairs, alone = [], []
    for record in records:
        if record.step != "step2":
            continue
        control = controls.get(_key(record)) if "images_since_step1" in record.training else None
        if control is None:
            alone.append(record)
        else:
            pairs.append(EqualTraining(record, control, _difference(control, record)))
    return pairs, alone


def _key(record: VariantRecord) -> tuple[object, ...]:
    measured = record.metric
    images = record.training.get("images_since_step1")
    return record.series, images, measured.name, measured.data_sha256, measured.samples


def _difference(control: VariantRecord, variant: VariantRecord) -> PairedDifference | None:
    reference, this = control.right_images(), variant.right_images()
    return None if reference is None or this is None else compare_right(reference, this)
