"""The project file: every key, found from below, and one clear line for whatever is wrong with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from exporter.project.settings import (
    BenchSection,
    BuildSection,
    DataSection,
    ModelSection,
    SelectSection,
    SplitSection,
    TargetSection,
    TrainingSection,
    find_project_file,
    load_project,
)
from jetson.errors import CoopexportError
from jetson.runtime.preprocessing import Preprocessing

MODEL = """
[model]
factory = "net:build"
checkpoint = "net.safetensors"
input_shape = [3, 8, 8]
"""
EVERY_KEY = """
schema = "coopexport.project/1.0"
[model]
name = "mine"
factory = "net:build"
arguments = { width = 8, flags = [true, false] }
checkpoint = "net.safetensors"
masks = "masks.safetensors"
pruned_checkpoint = "pruned.safetensors"
input_shape = [3, 8, 8]
[preprocessing]
layout = "NCHW"
colour_order = "BGR"
resize = [10, 10]
interpolation = "nearest"
crop = [8, 8]
scale = 0.5
mean = [0.1, 0.2, 0.3]
std = [1.0, 2.0, 3.0]
input_dtype = "float32"
[data]
training = "t.npz"
unlabelled = "u.npz"
validation = "v.npz"
calibration = "c.npz"
evaluation = "e.npz"
metric = "net:metric"
calibration_samples = 8
image_size = [8, 9]
compare_folders = "content"
[training]
optimizer = "adamw"
learning_rate = 1
momentum = 0
weight_decay = 0
schedule = "one-cycle"
batch_images = 8
shift_pixels = 4
flip = true
device = "cpu"
mixed_precision = false
loss = "net:loss"
distillation_weight = 1
distillation_temperature = 2
validation_share = 0.5
patience = 3
seed = 7
threads = 2
[split]
candidates = ["conv1"]
at = "pre-activation"
encoding = "float32"
standalone = true
maximum_tensors = 2
bits = 4
clip = "minmax"
percentile = 99.0
granularity = "channel"
packing = "bytes"
codec = "raw"
maximum_loss_points = 0.0
[build]
targets = ["cpu", "my-orin"]
precision = "fp16"
batches = [1, 4, 8]
[targets.my-orin]
base = "agx-orin"
description = "the one on the truck"
precision = "int8"
batches = [2, 2, 2]
workspace_bytes = 1073741824
dla_core = 1
gpu_fallback = false
optimization_level = 5
power_mode = "30W"
simplify = true
tensorrt = "10.3.0"
compute_capability = "8.7"
dla_cores = 2
memory_bytes = 34359738368
[bench]
rounds = 8
warm_up = 1
precisions = ["int8", "fp32"]
batches = [4, 1]
memory = false
energy = true
energy_seconds = 0.5
[select]
device_slowdown = 3
maximum_loss_points = 2.5
jpeg_quality = 100
webp_quality = 1
device_target = "orin-nano"
round_trip_ms = 20
goodput_samples_bps = [1e6, 2e6]
latency_percentile = 90
maximum_latency_ms = 30
maximum_device_memory_bytes = 1e8
maximum_device_mj = 50
batch = 1
precisions = ["fp32", "fp16"]
upload = false
protocol = "none"
hysteresis_percent = 10
[select.goodput_bps]
mine = 1e6
[select.cuts]
"conv4_1-*" = ["conv4_1", "input"]
[select.device_loads]
busy = 2.5
[select.edge_loads]
full = 4
"""


def write(folder: Path, text: str, schema: str = 'schema = "coopexport.project/1.0"\n') -> Path:
    path = folder / "coopexport.toml"
    path.write_text(schema + text)
    return path


def refusal(path: Path) -> str:
    with pytest.raises(CoopexportError) as caught:
        load_project(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


def test_every_documented_key_is_taken(tmp_path: Path) -> None:
    project = load_project(write(tmp_path, EVERY_KEY, schema=""))
    settings = project.settings
    assert settings.model == ModelSection(
        name="mine",
        factory="net:build",
        arguments={"width": 8, "flags": [True, False]},
        checkpoint="net.safetensors",
        masks="masks.safetensors",
        pruned_checkpoint="pruned.safetensors",
        input_shape=(3, 8, 8),
    )
    assert project.preprocessing == Preprocessing(
        "NCHW", "BGR", (10, 10), "nearest", (8, 8), 0.5, (0.1, 0.2, 0.3), (1.0, 2.0, 3.0), "float32"
    )
    assert settings.data == DataSection(
        training="t.npz",
        unlabelled="u.npz",
        validation="v.npz",
        calibration="c.npz",
        evaluation="e.npz",
        metric="net:metric",
        calibration_samples=8,
        image_size=(8, 9),
        compare_folders="content",
    )
    assert settings.training == TrainingSection(
        optimizer="adamw",
        learning_rate=1.0,
        momentum=0.0,
        weight_decay=0.0,
        schedule="one-cycle",
        batch_images=8,
        shift_pixels=4,
        flip=True,
        device="cpu",
        mixed_precision=False,
        loss="net:loss",
        distillation_weight=1.0,
        distillation_temperature=2.0,
        validation_share=0.5,
        patience=3,
        seed=7,
        threads=2,
    )
    assert settings.split == SplitSection(
        candidates=("conv1",),
        at="pre-activation",
        standalone=True,
        maximum_tensors=2,
        encoding="float32",
        bits=4,
        clip="minmax",
        percentile=99.0,
        granularity="channel",
        packing="bytes",
        codec="raw",
        maximum_loss_points=0.0,
    )
    assert settings.build == BuildSection(targets=("cpu", "my-orin"), precision="fp16", batches=(1, 4, 8))
    mine = TargetSection(
        base="agx-orin",
        description="the one on the truck",
        precision="int8",
        batches=(2, 2, 2),
        workspace_bytes=1 << 30,
        dla_core=1,
        gpu_fallback=False,
        optimization_level=5,
        power_mode="30W",
        simplify=True,
        tensorrt="10.3.0",
        compute_capability="8.7",
        dla_cores=2,
        memory_bytes=32 << 30,
    )
    assert settings.targets == {"my-orin": mine}
    assert set(TargetSection.model_fields) == mine.model_fields_set
    assert settings.bench == BenchSection(
        rounds=8, warm_up=1, precisions=("int8", "fp32"), batches=(4, 1), memory=False, energy=True, energy_seconds=0.5
    )
    assert settings.select == SelectSection(
        goodput_bps={"mine": 1e6},
        device_slowdown=3.0,
        maximum_loss_points=2.5,
        jpeg_quality=100,
        webp_quality=1,
        device_target="orin-nano",
        round_trip_ms=20.0,
        goodput_samples_bps=(1e6, 2e6),
        latency_percentile=90.0,
        maximum_latency_ms=30.0,
        maximum_device_memory_bytes=1e8,
        maximum_device_mj=50.0,
        batch=1,
        precisions=("fp32", "fp16"),
        upload=False,
        protocol="none",
        hysteresis_percent=10.0,
        cuts={"conv4_1-*": ("conv4_1", "input")},
        device_loads={"busy": 2.5},
        edge_loads={"full": 4.0},
    )
    # No key was forgotten above.
    for name in ("model", "data", "training", "split", "build", "bench", "select"):
        section = getattr(settings, name)
        assert set(type(section).model_fields) == section.model_fields_set, name
    assert set(settings.preprocessing) == set(Preprocessing._fields)


def test_defaults_and_paths(tmp_path: Path) -> None:
    project = load_project(write(tmp_path, MODEL))
    assert project.settings.split == SplitSection()
    assert project.preprocessing == Preprocessing()
    assert project.folder == tmp_path.resolve()
    assert project.path("data/x.npz") == tmp_path.resolve() / "data/x.npz"
    assert project.path("/elsewhere") == Path("/elsewhere")
    assert project.variant_folder("pruned") == tmp_path.resolve() / "out" / "pruned"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (MODEL + "[splitt]\n", ["splitt", "did you mean split?"]),
        (MODEL + "[split]\npercentil = 99\n", ["split.percentil", "did you mean percentile?"]),
        (MODEL + "[select]\nslowdown = 2\n", ["select.slowdown", "did you mean device_slowdown?"]),
        (
            MODEL + "[bench]\nzzz = 2\n",
            ["bench.zzz", "known are batches, energy, energy_seconds, memory, precisions, rounds, warm_up"],
        ),
        (MODEL + "[build]\nprecison = 2\n", ["build.precison", "did you mean precision?"]),
        (MODEL + "[targets.mine]\nsimplfy = true\n", ["targets.mine.simplfy", "did you mean simplify?"]),
        (MODEL + "[targets.mine]\nzzz = true\n", ["targets.mine.zzz", "known are base, batches"]),
        (MODEL.replace("factory", "factroy"), ["model.factroy", "did you mean factory?"]),
        (MODEL + "[preprocessing]\nscales = 2\n", ["preprocessing.scales", "did you mean scale?"]),
    ],
)
def test_unknown_keys_get_the_nearest(tmp_path: Path, text: str, words: list[str]) -> None:
    message = refusal(write(tmp_path, text))
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (MODEL.replace('"net:build"', "3"), "model.factory"),
        (MODEL.replace("[3, 8, 8]", '"3x8x8"'), "model.input_shape"),
        (MODEL.replace("[3, 8, 8]", "[]"), "model.input_shape"),
        (MODEL.replace("[3, 8, 8]", "[3, -8, 8]"), "model.input_shape"),
        (MODEL.replace("[3, 8, 8]", "[3, 0, 8]"), "model.input_shape"),
        (MODEL.replace("[3, 8, 8]", "[3, 8.5, 8]"), "model.input_shape"),
        (MODEL.replace('checkpoint = "net.safetensors"', ""), "model.checkpoint"),
        (MODEL + '[split]\ncandidates = "conv1"\n', "split.candidates"),
        (MODEL + '[split]\ncodec = "zip"\n', "split.codec"),
        (MODEL + "[split]\npercentile = 50\n", "split.percentile"),
        (MODEL + "[split]\npercentile = 100.5\n", "split.percentile"),
        (MODEL + "[split]\nmaximum_loss_points = inf\n", "split.maximum_loss_points"),
        (MODEL + '[build]\nprecision = "fp8"\n', "build.precision"),
        (MODEL + "[build]\nbatches = [1, 8, 4]\n", "build.batches"),
        (MODEL + "[build]\nbatches = [0, 1, 4]\n", "build.batches"),
        (MODEL + "[build]\nbatches = [1, 4]\n", "build.batches"),
        (MODEL + "[targets.mine]\nbatches = [4, 1, 4]\n", "targets.mine.batches"),
        (MODEL + "[targets.mine]\ndla_core = -1\n", "targets.mine.dla_core"),
        (MODEL + "[targets.mine]\noptimization_level = 6\n", "targets.mine.optimization_level"),
        (MODEL + '[targets.mine]\ntensorrt = "newest"\n', "targets.mine.tensorrt"),
        (MODEL + '[targets."a/b"]\nsimplify = true\n', "a/b"),
        (MODEL + '[targets]\nmine = "orin-nano"\n', "targets.mine"),
        (MODEL + "[bench]\nrounds = 7\n", "bench.rounds"),
        (MODEL + '[bench]\nrounds = "many"\n', "bench.rounds"),
        (MODEL + "[select]\ndevice_slowdown = 0\n", "select.device_slowdown"),
        (MODEL + "[select]\ndevice_slowdown = nan\n", "select.device_slowdown"),
        (MODEL + "[select]\ndevice_slowdown = inf\n", "select.device_slowdown"),
        (MODEL + "[select]\njpeg_quality = 101\n", "select.jpeg_quality"),
        (MODEL + "[select]\nmaximum_latency_ms = 0\n", "select.maximum_latency_ms"),
        (MODEL + "[select]\nround_trip_ms = -1\n", "select.round_trip_ms"),
        (MODEL + "[select]\ngoodput_samples_bps = [1e6, 0]\n", "select.goodput_samples_bps"),
        (MODEL + "[select]\nlatency_percentile = 101\n", "select.latency_percentile"),
        (MODEL + '[select]\nprecisions = ["fp8"]\n', "select.precisions"),
        (MODEL + "[select.device_loads]\nbusy = 0\n", "select.device_loads.busy"),
        (MODEL + '[select.edge_loads]\n"a b" = 2\n', "select.edge_loads"),
        (MODEL + "[select]\ngoodput_bps = {}\n", "select.goodput_bps"),
        (MODEL + "[select.goodput_bps]\nslow = 0\n", "slow"),
        (MODEL + "[select.goodput_bps]\nfast = inf\n", "fast"),
        (MODEL + "[data]\ncalibration_samples = 7\n", "data.calibration_samples"),
        (MODEL + "[data]\nimage_size = [8, 0]\n", "data.image_size"),
        (MODEL + '[training]\nloss = "mse"\n', "training.loss"),
        (MODEL + "[training]\nlearning_rate = 0\n", "training.learning_rate"),
        (MODEL + "[training]\ndistillation_weight = 1.5\n", "training.distillation_weight"),
        (MODEL + "[training]\nvalidation_share = 0.6\n", "training.validation_share"),
        (MODEL + "[training]\npatience = 0\n", "training.patience"),
        (MODEL + "[training]\nseed = -1\n", "training.seed"),
        (MODEL + '[preprocessing]\nlayout = "CHW"\n', "preprocessing.layout"),
        ("model = 3\n", "model"),
        ("", "model"),
    ],
)
def test_wrong_values_are_refused_by_key(tmp_path: Path, text: str, key: str) -> None:
    assert key in refusal(write(tmp_path, text))


@pytest.mark.parametrize("content", [b"[model\n", b'schema = "x', b"a = 1\na = 2\n", b"\xff\xfe"])
def test_what_is_no_toml_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "coopexport.toml"
    path.write_bytes(content)
    assert "not valid TOML" in refusal(path)


@pytest.mark.parametrize("schema", ["", "schema = 1\n", 'schema = "coopexport.project/2.0"\n', 'schema = "x/1.0"\n'])
def test_another_schema_is_refused(tmp_path: Path, schema: str) -> None:
    assert "coopexport.project/1.0" in refusal(write(tmp_path, MODEL, schema))


def test_a_later_minor_version_is_read(tmp_path: Path) -> None:
    path = write(tmp_path, MODEL, 'schema = "coopexport.project/1.3"\n')
    assert load_project(path).settings.model.checkpoint == "net.safetensors"


def test_found_upward_from_a_subfolder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, MODEL)
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    assert find_project_file(inner) == path
    monkeypatch.chdir(inner)
    assert load_project().folder == tmp_path.resolve()
    nearer = write(tmp_path / "a", MODEL)
    assert find_project_file(inner) == nearer


def test_missing_files_name_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CoopexportError, match="coopexport init"):
        load_project()
    assert "coopexport init" in refusal(tmp_path / "other.toml")
    assert "coopexport init" in refusal(tmp_path)
