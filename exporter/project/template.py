"""The project file that `coopexport init` writes: every key, explained."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

TEMPLATE = """\
schema = "coopexport.project/1.0"
# Paths are relative to this file. What coopexport writes goes into the folder out/ beside it.

[model]
name = {name}
# The function that builds the network, from your own code: "package.module:function".
factory = {factory}
arguments = {arguments}
# The weights: safetensors, or what torch.save(model.state_dict(), ...) wrote.
checkpoint = {checkpoint}
# Which channels were pruned (docs/formats.md, "Mask"). Leave it out for a network that was not.
{masks}
# The weights that belong to the masks, where pruning was followed by fine-tuning; without it, those of checkpoint.
{pruned_checkpoint}
# Shape of one input, without the batch, as the network takes it.
input_shape = {input_shape}

[preprocessing]
# How an image (RGB, uint8) becomes an input; carried in every bundle and applied by the same code everywhere.
# Order: resize, crop, colour_order, scale (times), mean (minus), std (divided by), layout, input_dtype.
layout = "NCHW"                       # or "NHWC"
colour_order = "RGB"                  # what the network wants: "RGB", "BGR" or "GRAY"
# resize = 256                        # shorter side, or [height, width]
# interpolation = "bilinear-antialias"  # or "bilinear", "nearest"
# crop = [224, 224]                   # centre
scale = {scale}
mean = {mean}
std = {std}
input_dtype = "float32"               # "uint8" for a network that normalises by itself

[data]
# Each of these: an npz file with arrays images (count x height x width x 3, uint8) and labels; CIFAR's binary files,
# one or their folder; a folder of images as class_name/image.png; or "package.module:function" that returns images and
# labels, or, to train, a dataset with __len__ and __getitem__.
# training = "data/training.npz"
# unlabelled = "data/unlabelled.npz"  # images without labels, or a folder with any: bottlenecks learn from these
# validation = "data/validation.npz"  # judges training; without it, a share of training is set apart
calibration = {calibration}
evaluation = {evaluation}
metric = "top1"                       # or "package.module:function" of (outputs, labels); higher is better
calibration_samples = 256
# image_size = [224, 224]             # folders of images: scale to cover height x width, and crop at the centre
compare_folders = "times"             # whether a folder changed: by its files' names, sizes and times, or "content"

[training]
optimizer = "sgd"                     # or "adamw"
learning_rate = 0.001                 # the highest of the schedule
momentum = 0.9                        # of AdamW the first beta; "one-cycle" sets its own
weight_decay = 0.0005
schedule = "constant"                 # or "cosine" (down to 0), "one-cycle" (up for a quarter, then down)
batch_images = 32
shift_pixels = 0                      # shift every image at random by up to so many pixels, its border repeated
flip = false                          # true: mirror left to right, every second image, drawn
device = "auto"                       # "cpu", "cuda"; "auto" is the GPU where there is one
mixed_precision = true                # on CUDA only: float16 where that is safe
loss = "cross-entropy"                # or "package.module:function" of (outputs, labels); lower is better
distillation_weight = 0.0             # share of the loss that is the distance from the unpruned network's outputs
distillation_temperature = 4.0
validation_share = 0.1                # of the training data, where data.validation is not set
# patience = 5                        # stop after so many epochs without a better score, and keep the best weights
seed = 0
# threads = 1                         # of PyTorch while training; without it, as many as it likes

[prune]
# What `coopexport prune two-step` does between the trainings above (docs/pruning.md).
criterion = "taylor"                  # how important a channel is; docs/pruning.md lists them
# score_images = 2000                 # training images that a score is taken on; without it, all
normalisation = "l2"                  # or "rank": the same share of every layer goes, as l1-norm's authors do
removed_share = 0.0625                # step 1: share of all filters that goes in a round
epochs = 2.0                          # trained after each round; may be a fraction
final_epochs = 3.0                    # and once more at the end
maximum_loss_points = 1.8             # the validation score may fall by so much
least_left = 0.2                      # or until this share of all filters is left
# macs_reduction = 6.0                # or until the MACs are so many times fewer
# rounds = 8                          # in so many rounds, with the same factor in each
widths = 15                           # step 2: most widths at a layer, evenly spaced in logarithm, down to 1
step_two_epochs = 2.0                 # trained after each width
# step_two_learning_rate = 0.0005     # where it is another than training.learning_rate

[bottleneck]
# What `coopexport bottleneck` puts at a cut, and how it trains (docs/bottleneck.md).
maximum_loss_points = 1.0             # of the metric, against the network without one
trainings = 6                         # most trainings of a search
stride = 2                            # in height and width, to begin with: 1, 2 or 4
# channels = 4                        # that cross, to begin with; without it, a quarter of the feature's
bits = 3                              # of a symbol, to begin with
rate_weight = 4e-4                    # loss per bit of a sample, where bits are trained for first
feature_weight = 0.1                  # of the distance from the feature behind the cut
distillation_weight = 0.5             # share of the loss that is the distance from the outputs without one
tail = "fine-tuned"                   # "frozen": the edge's side stays as it is, one for all cuts
first_epochs = 6.0                    # of the first training
epochs = 3.0                          # of each one after it
# learning_rate = 0.001               # where it is another than training.learning_rate

[split]
# Layers to cut after with `coopexport split --all`; empty: every clean cut. `coopexport layers` lists them.
candidates = {candidates}
at = "post-activation"                # after the layer's batch norm and activation, or "pre-activation"
standalone = false                    # true: graphs that hold their own weights, below 2 GB each
maximum_tensors = 1                   # more: cuts inside residual and dense blocks, where several tensors cross
encoding = "affine"                   # symbols of `bits`; "float16" or "float32" send numbers
bits = 8                              # 1 to 8
clip = "percentile"                   # or "minmax", "mse", "kl": which range the symbols cover
percentile = 99.99
granularity = "tensor"                # one range, or one for each "channel"
packing = "none"                      # "bytes": 1, 2 or 4 bits put together in the head; "words": for TensorRT 8.2
codec = "rans-context"                # tables fitted here; or "rans", "zlib-huffman" (needs no tables), "raw"
maximum_loss_points = 1.0             # refuse a cut whose encoding costs more of the metric

[build]
targets = {targets}                     # `coopexport targets` lists them: cpu, rtx-ada, orin-nano ...
precision = "fp32"                    # or "fp16", "int8"
batches = [1, 1, 1]                   # min, opt and max at a time; three equal numbers are a static engine

# A target of your own, or another setting for one that is there, in a section of its own (docs/targets.md):
#   [targets.my-orin]
#   base = "orin-nano@6.2"
#   precision = "fp16"
#   power_mode = "25W"

[bench]
rounds = 100
warm_up = 10                          # at least; it goes on until all parts are steady
precisions = ["fp32"]                 # and "fp16", "int8", where `coopexport precision` made them
batches = [1]                         # images at once; latencies are those of the whole batch
memory = true                         # load and run each engine once more by itself, for its peak memory
# energy = true                       # of each part, too; else only on devices whose board shows its power
# energy_seconds = 1.0                # how long each part runs by itself for that

[select]
device_slowdown = 5.0                 # how much slower the device is than this machine: an assumption, recorded
# device_target = "orin-nano"         # whose rows of the latency table are the device's times, where it has them
maximum_loss_points = 1.0             # against the unpruned network
# maximum_latency_ms = 50             # choose the most accurate within it, and not the fastest
jpeg_quality = "lowest"               # of the image sent as JPEG: the lowest within the bound, or 1 to 100
webp_quality = "lowest"
round_trip_ms = 0.0                   # of the links below, for every image that crosses
# goodput_samples_bps = [2_000_000, 5_000_000]  # of a varying link: choose for a percentile of its latency, too
protocol = "framed"                   # whose bytes cross beside the payload (docs/links.md); "none": of the paper
latency_percentile = 95.0
hysteresis_percent = 5.0              # by how much another choice has to be better before a device takes it
upload = true                         # false: the input may not leave the device
# cuts = {{ "conv4_1-*" = ["conv4_1"] }}  # where these variants may be cut; input and output are layers, too
# precisions = ["fp32", "fp16"]       # only these
batch = 1                             # only what computes so many images at once; latencies are the batch's
# maximum_device_memory_bytes = 100_000_000  # of the device's engine, where it was measured
# maximum_device_mj = 500
# device_loads = {{ busy = 2.5 }}       # how many times slower a machine is under a load; idle is 1
# edge_loads = {{ busy = 4.0 }}

[select.goodput_bps]                  # delivered bits per second, measured, not nominal
"3G" = 1_100_000
"4G" = 5_850_000
"WiFi" = 18_880_000

# Links with more to say have sections of their own (docs/links.md; `coopexport links` lists the presets):
#   [links.LTE]
#   preset = "LTE"
#   [links.workshop]
#   measured = "nano.link.json"       # what `coopexport probe --link user@nano` wrote
#   [links.field]
#   trace = "field.csv"               # a time series of goodput
#   round_trip_ms = 60
"""

DEFAULTS: dict[str, Any] = {
    "name": "network",
    "factory": "package.module:function",
    "arguments": {},
    "checkpoint": "network.safetensors",
    "masks": None,
    "pruned_checkpoint": None,
    "input_shape": [3, 224, 224],
    "scale": 1 / 255,
    "mean": [0.485, 0.456, 0.406],
    "std": [0.229, 0.224, 0.225],
    "calibration": "data/calibration.npz",
    "evaluation": "data/evaluation.npz",
    "candidates": [],
    "targets": ["cpu"],
}


def project_text(values: Mapping[str, Any], sections: Mapping[str, Mapping[str, Any]] | None = None) -> str:
    """Return the text of a project file; `values` override DEFAULTS and are written as TOML.

    `sections`: by section the keys that have other values than the template's, those commented out included. Raises
    KeyError for a key that the template does not have.
    """
    merged = {**DEFAULTS, **values}
    written = {key: to_toml(value) for key, value in merged.items()}
    for key in ("masks", "pruned_checkpoint"):  # optional: commented out when not given
        written[key] = f'# {key} = "{key}.safetensors"' if merged[key] is None else f"{key} = {written[key]}"
    text = TEMPLATE.format(**written)
    for section, changes in (sections or {}).items():
        for key, value in changes.items():
            text = _with_value(text, section, key, value)
    return text


def _with_value(text: str, section: str, key: str, value: Any) -> str:
    start = text.index(f"\n[{section}]\n")
    found = re.compile(rf"^(?:# )?{re.escape(key)} = [^#\n]*", flags=re.MULTILINE).search(text, start + 1)
    if found is None or "\n[" in text[start + 1 : found.start()]:
        raise KeyError(f"the template has no key {key} in section {section}")
    return f"{text[: found.start()]}{f'{key} = {to_toml(value)}':<{len(found.group())}}{text[found.end() :]}"


def to_toml(value: Any) -> str:
    """Return a string, number, list or flat dictionary as inline TOML."""
    if isinstance(value, dict):
        keys = [key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else to_toml(key) for key in value]
        items = zip(keys, value.values(), strict=True)
        return "{ " + ", ".join(f"{key} = {to_toml(item)}" for key, item in items) + " }" if value else "{}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(to_toml(item) for item in value) + "]"
    return json.dumps(value, ensure_ascii=False)  # TOML knows no surrogate pairs
