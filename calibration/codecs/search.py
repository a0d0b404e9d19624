"""The joint choice of bits, clip range, granularity and codec for a cut, by what each costs in accuracy and bytes.

JALAD (Li et al. 2018) chooses the bits of a feature together with its compressibility under a bound of accuracy; here
the clipping method, its granularity and the codec are chosen with them, without any retraining.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.codecs.entropy_tables import fit_symbol_model
from calibration.metrics.metric import Score
from calibration.ranges.clip_methods import ClipSettings
from calibration.ranges.clip_range import FeatureSample, clip_range
from exporter.bundles.accuracy_bound import keeps_bound
from exporter.encoding.specification import EncodeSpecification, affine_specification, decode, encode, feature_tensor
from jetson.errors import DeviceError, InputError
from jetson.runtime.sampling import fixed, sample_interleaved
from jetson.wire.feature import FeatureCodec

BITS = (8, 6, 5, 4, 3, 2, 1)
METHODS = (("minmax", 100.0), ("percentile", 99.9), ("mse", 100.0), ("kl", 100.0))
GRANULARITIES = ("tensor", "channel")
CODECS = ("raw", "zlib-huffman", "rans", "rans-context")
_TIMED_MESSAGES = 16
_MIN_SAMPLES = 8

Feature = NDArray[np.float32]
# The metric of what the tail makes of features.
Evaluate = Callable[[Sequence[Feature]], Score]


@dataclass(frozen=True)
class Trial:
    """One way to encode and code a feature, and what it costs.

    `loss_points`: of the metric, against the feature as it is, on calibration data; `loss_error_points`: its standard
    error, from the images that change, 0 where the metric has no value for each image. `payload_bytes`: mean size of
    the whole message of one sample, on samples that the tables were not fitted to. `encode_us` and `decode_us`: median
    times of coding and decoding one message on this machine (quantisation is part of head and tail).
    """

    bits: int
    clip: str
    percentile: float | None
    granularity: str
    codec: str
    loss_points: float
    loss_error_points: float
    payload_bytes: float
    bits_per_element: float
    encode_us: float
    decode_us: float


def search(
    samples: Sequence[FeatureSample],
    features: Sequence[Feature],
    evaluate: Evaluate,
    bits: Sequence[int] = BITS,
    codecs: Sequence[str] = CODECS,
    on_progress: Callable[[int], None] | None = None,
) -> tuple[Trial, ...]:
    """Return what every combination costs at one cut; where several tensors cross, all are encoded alike.

    `samples`: the values that clip ranges are chosen from, tensor by tensor; `features`: N x ..., float32, what crosses
    for the calibration data, N at least 8; `evaluate`: the metric of the tail on such features. Ranges that
    come out the same are tried once. `on_progress` is told how many settings are done. Raises CoopexportError when
    there are too few samples.
    """
    if len(features[0]) < _MIN_SAMPLES:
        raise InputError(
            f"{len(features[0])} calibration samples are too few to choose an encoding by",
            fix=f"give {_MIN_SAMPLES} or more",
        )
    reference = evaluate(features)
    elements = sum(feature[0].size for feature in features)
    trials: list[Trial] = []
    seen = set()
    for done, settings in enumerate(settings_to_try(bits, max(item.ndim for item in features)), start=1):
        found = [affine_specification(clip_range(sample, settings), settings.bits) for sample in samples]
        key = tuple((item.bits, item.low, item.step) for item in found)
        if key not in seen:
            seen.add(key)
            symbols = [encode(item, feature) for item, feature in zip(found, features, strict=True)]
            decoded = [decode(item, one) for item, one in zip(found, symbols, strict=True)]
            loss_points, loss_error_points = _loss(reference, evaluate(decoded))
            for codec in codecs:
                payload_bytes, encode_us, decode_us = _coded(symbols, found, codec)
                trials.append(
                    Trial(
                        settings.bits,
                        settings.method,
                        settings.percentile if settings.method == "percentile" else None,
                        settings.granularity,
                        codec,
                        loss_points,
                        loss_error_points,
                        payload_bytes,
                        8 * payload_bytes / elements,
                        encode_us,
                        decode_us,
                    )
                )
        if on_progress is not None:
            on_progress(done)
    return tuple(trials)


def settings_to_try(bits: Sequence[int], dimensions: int) -> list[ClipSettings]:
    """Return all settings of the search; a feature without positions (N x features) has no channels of its own."""
    granularities = GRANULARITIES if dimensions > 2 else GRANULARITIES[:1]
    return [
        ClipSettings(method, percentile, granularity, width)  # type: ignore[arg-type]
        for width in bits
        for granularity in granularities
        for method, percentile in METHODS
    ]


def front(trials: Sequence[Trial]) -> tuple[Trial, ...]:
    """Return the trials that no other beats in loss, bytes and coding time alike, fewest bytes first."""

    def costs(trial: Trial) -> tuple[float, float, float]:
        return trial.payload_bytes, trial.loss_points, trial.encode_us + trial.decode_us

    ordered = sorted(trials, key=costs)
    kept: list[Trial] = []
    for trial in ordered:
        mine = costs(trial)
        if not any(all(a <= b for a, b in zip(costs(other), mine, strict=True)) for other in kept):
            kept.append(trial)
    return tuple(kept)


def recommended(trials: Sequence[Trial], maximum_loss_points: float) -> Trial | None:
    """Return the trial with the fewest bytes whose loss and its standard error are within the bound, None if none is.

    The error is added since other images than those of the search will pass: with few of them only little loss is sure
    enough. Of several within one byte the one that is coded fastest, then the one that loses least.
    """
    allowed = [
        trial for trial in trials if keeps_bound(trial.loss_points + trial.loss_error_points, maximum_loss_points)
    ]
    if not allowed:
        return None
    least = min(trial.payload_bytes for trial in allowed)
    near = [trial for trial in allowed if trial.payload_bytes <= least + 1]
    return min(near, key=lambda trial: (trial.encode_us + trial.decode_us, trial.loss_points))


def _loss(reference: Score, score: Score) -> tuple[float, float]:
    """Return by how many points `score` is lower, and the standard error of that, image by image."""
    loss_points = 100.0 * (reference.value - score.value)
    if reference.per_image is None or score.per_image is None:
        return loss_points, 0.0
    differences = reference.per_image - score.per_image
    return loss_points, 100.0 * float(differences.std() / np.sqrt(len(differences)))


def _coded(
    symbols: Sequence[NDArray[Any]], specifications: Sequence[EncodeSpecification], codec: str
) -> tuple[float, float, float]:
    """Return mean message bytes, and median microseconds to code and to decode one.

    Tables are fitted to one half of the samples, and everything is measured on the other.
    """
    count = len(symbols[0])
    half = count // 2
    tensors = []
    for index, (one, specification) in enumerate(zip(symbols, specifications, strict=True)):
        model = None
        if codec in ("rans", "rans-context"):
            model = fit_symbol_model(one[:half], specification.bits, contexts=codec == "rans-context")
        tensors.append(feature_tensor(specification, f"symbols_{index}", one.shape[1:], codec, model))
    feature_codec = FeatureCodec(tuple(tensors))
    held_out = [[one[index : index + 1] for one in symbols] for index in range(half, count)]
    sizes = [len(feature_codec.encode(sample)) for sample in held_out]
    return float(np.mean(sizes)), *_median_times_us(feature_codec, held_out[:_TIMED_MESSAGES])


def _median_times_us(codec: FeatureCodec, samples: Sequence[Sequence[NDArray[Any]]]) -> tuple[float, float]:
    """Return the median microseconds to code one of `samples` and to decode its message; raises CoopexportError."""
    number = 0
    messages = [codec.encode(sample) for sample in samples]

    def next_message(_done: int, _rounds: int) -> None:
        nonlocal number
        number = (number + 1) % len(samples)

    # Coding them all above was the warm-up: there are hundreds of combinations to try.
    items = [("encode", lambda: codec.encode(samples[number])), ("decode", lambda: codec.decode(messages[number]))]
    taken = sample_interleaved(items, len(samples), fixed(0), next_message)
    for name, reason in taken.failures.items():
        raise DeviceError(f"{name} cannot be measured: {reason}")
    return 1000 * median(taken.samples_ms["encode"]), 1000 * median(taken.samples_ms["decode"])
