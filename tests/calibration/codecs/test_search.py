"""The search of encodings: true costs of every trial, a front that nothing beats, a recommendation within the bound."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibration.codecs.entropy_tables import fit_symbol_model
from calibration.codecs.search import Trial, front, recommended, search, settings_to_try
from calibration.metrics.metric import Score
from calibration.ranges.clip_methods import ClipSettings
from calibration.ranges.clip_range import FeatureSample, clip_range
from exporter.encoding.specification import affine_specification, decode, encode, wire_specification
from jetson.errors import CoopexportError
from jetson.wire.message import encode_message

CHANNELS = 4


def features(count: int = 24, seed: int = 0) -> np.ndarray:
    """Return smooth rectified maps, whose channels have different ranges."""
    generator = np.random.default_rng(seed)
    coarse = generator.normal(size=(count, CHANNELS, 3, 3)).repeat(4, axis=2).repeat(4, axis=3)
    scales = np.array([0.2, 1.0, 2.0, 5.0])[:, np.newaxis, np.newaxis]
    return (np.maximum(coarse + 0.1 * generator.normal(size=coarse.shape), 0) * scales).astype(np.float32)


def sample_of(feature: np.ndarray) -> FeatureSample:
    rows = np.moveaxis(feature, 1, 0).reshape(CHANNELS, -1)
    return FeatureSample("t", rows, rows.min(axis=1), rows.max(axis=1), len(feature))


class Nearness:
    """A metric: 1 less how far the features are off, as a part of their spread."""

    def __init__(self, feature: np.ndarray) -> None:
        self.feature, self.calls = feature, 0

    def __call__(self, arrived: Sequence[np.ndarray]) -> Score:
        self.calls += 1
        off = np.abs(arrived[0] - self.feature).mean(axis=(1, 2, 3)) / self.feature.std()
        return Score("nearness", 1 - float(off.mean()), len(off), 1 - off.astype(np.float64))


def test_every_trial_costs_what_its_encoding_costs() -> None:
    feature = features()
    evaluate = Nearness(feature)
    trials = search([sample_of(feature)], [feature], evaluate, bits=(8, 3), codecs=("raw", "rans-context"))
    assert evaluate.calls == 1 + len(trials) // 2
    for trial in trials:
        settings = ClipSettings(trial.clip, trial.percentile or 100.0, trial.granularity, trial.bits)
        specification = affine_specification(clip_range(sample_of(feature), settings), trial.bits)
        symbols = encode(specification, feature)
        score = evaluate([decode(specification, symbols)])
        assert trial.loss_points == pytest.approx(100 * (1 - score.value), abs=1e-5)
        assert trial.loss_error_points == pytest.approx(100 * score.per_image.std() / np.sqrt(24))
        model = fit_symbol_model(symbols[:12], trial.bits, contexts=True) if trial.codec == "rans-context" else None
        wire = [wire_specification(specification, feature.shape[1:], trial.codec, model)]
        sizes = [len(encode_message([symbols[index : index + 1]], wire)) for index in range(12, 24)]
        assert trial.payload_bytes == pytest.approx(np.mean(sizes))
        assert trial.bits_per_element == pytest.approx(8 * np.mean(sizes) / feature[0].size)
        assert trial.encode_us > 0
        assert trial.decode_us > 0


def test_fewer_bits_are_fewer_bytes_and_more_loss_and_entropy_coding_pays() -> None:
    feature = features()
    trials = search([sample_of(feature)], [feature], Nearness(feature), bits=(8, 4, 2), codecs=("raw", "rans-context"))
    by_key = {(t.bits, t.clip, t.granularity, t.codec): t for t in trials}
    for granularity in ("tensor", "channel"):
        coarse, middle, fine = (by_key[bits, "minmax", granularity, "raw"] for bits in (2, 4, 8))
        assert coarse.payload_bytes < middle.payload_bytes < fine.payload_bytes
        assert coarse.loss_points > middle.loss_points > fine.loss_points >= 0
        coded = by_key[4, "minmax", granularity, "rans-context"]
        assert coded.payload_bytes < 0.8 * middle.payload_bytes
        assert coded.loss_points == middle.loss_points
    # Channels of different ranges each have all of their levels.
    assert by_key[2, "minmax", "channel", "raw"].loss_points < by_key[2, "minmax", "tensor", "raw"].loss_points


def test_ranges_that_come_out_the_same_are_tried_once() -> None:
    """A feature of two values leaves nothing to clip."""
    feature = np.random.default_rng(0).integers(0, 2, (16, CHANNELS, 4, 4)).astype(np.float32)
    trials = search([sample_of(feature)], [feature], Nearness(feature), bits=(1,), codecs=("raw",))
    assert len({(trial.clip, trial.granularity) for trial in trials}) == len(trials) < len(settings_to_try((1,), 4))


def test_features_without_positions_have_one_range() -> None:
    assert {settings.granularity for settings in settings_to_try((8,), 2)} == {"tensor"}
    assert {settings.granularity for settings in settings_to_try((8,), 4)} == {"tensor", "channel"}


def test_progress_and_too_few_samples() -> None:
    feature = features(8)
    done: list[int] = []
    search([sample_of(feature)], [feature], Nearness(feature), (8,), ("raw",), done.append)
    assert done == list(range(1, len(settings_to_try((8,), 4)) + 1))
    with pytest.raises(CoopexportError, match="7 calibration samples are too few"):
        search([sample_of(feature[:7])], [feature[:7]], Nearness(feature))


def trial(payload_bytes: float, loss_points: float, encode_us: float = 1.0, error: float = 0.0) -> Trial:
    return Trial(4, "mse", None, "tensor", "rans", loss_points, error, payload_bytes, 1.0, encode_us, 1.0)


trials_drawn = st.lists(
    st.builds(trial, st.integers(1, 6).map(float), st.integers(0, 4).map(float), st.integers(1, 3).map(float)),
    min_size=1,
    max_size=12,
)


def beats(one: Trial, other: Trial) -> bool:
    pairs = [(one.payload_bytes, other.payload_bytes), (one.loss_points, other.loss_points),
             (one.encode_us + one.decode_us, other.encode_us + other.decode_us)]  # fmt: skip
    return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)


@given(trials_drawn)
def test_the_front_is_what_nothing_beats(trials: list[Trial]) -> None:
    kept = front(trials)
    assert not any(beats(one, other) for one, other in itertools.product(trials, kept))
    for other in trials:
        assert other in kept or any(beats(one, other) for one in kept)
    assert len(set(kept)) == len(kept)


@given(trials_drawn, st.integers(0, 4))
def test_the_recommendation_is_within_the_bound_and_smallest_but_for_a_byte(trials: list[Trial], bound: int) -> None:
    chosen = recommended(trials, bound)
    allowed = [trial for trial in trials if trial.loss_points <= bound]
    if not allowed:
        assert chosen is None
        return
    assert chosen in allowed
    assert chosen.payload_bytes <= min(trial.payload_bytes for trial in allowed) + 1


def test_a_loss_that_may_be_larger_is_not_recommended() -> None:
    """One point lost, give or take half a point, is not within one point."""
    unsure, sure, large = trial(10, 1.0, error=0.5), trial(20, 1.0), trial(30, 0.0)
    assert recommended([unsure, sure, large], 1.0) is sure
    assert recommended([unsure, large], 1.0) is large
    assert recommended([unsure], 1.5) is unsure
    assert recommended([unsure], 1.0) is None
