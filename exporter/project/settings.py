"""The project file `coopexport.toml`: found, read, checked, and refused in one clear line."""

from __future__ import annotations

import difflib
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError, field_validator, model_validator

from exporter.project.link_section import LinkSection, Protocol
from jetson.errors import CoopexportError, InputError, reworded
from jetson.files.json_files import same_major
from jetson.runtime import preprocessing as preprocessing_steps
from jetson.runtime.preprocessing import Preprocessing

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PROJECT_FILE = "coopexport.toml"
SCHEMA = "coopexport.project/1.0"
CROSS_ENTROPY = "cross-entropy"


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ModelSection(_Section):
    """`[model]`: the network, as the user's own code builds it."""

    name: str = "network"
    factory: str
    arguments: dict[str, Any] = Field(default_factory=dict)
    checkpoint: str
    masks: str | None = None
    pruned_checkpoint: str | None = None
    input_shape: tuple[PositiveInt, ...] = Field(min_length=1)


class DataSection(_Section):
    """`[data]`: images and labels to train, to calibrate and to evaluate with, and what to measure.

    `unlabelled`: images without labels, for what learns from a network instead.
    """

    training: str | None = None
    unlabelled: str | None = None
    validation: str | None = None
    calibration: str | None = None
    evaluation: str | None = None
    metric: str = "top1"
    calibration_samples: int = Field(default=256, ge=8)
    image_size: tuple[PositiveInt, PositiveInt] | None = None
    compare_folders: Literal["times", "content"] = "times"


class SplitSection(_Section):
    """`[split]`: where to cut, and what happens to the feature there."""

    candidates: tuple[str, ...] = ()
    at: Literal["post-activation", "pre-activation"] = "post-activation"
    standalone: bool = False
    maximum_tensors: int = Field(default=1, ge=1, le=16)
    encoding: Literal["affine", "float16", "float32"] = "affine"
    bits: int = Field(default=8, ge=1, le=8)
    clip: Literal["minmax", "percentile", "mse", "kl"] = "percentile"
    percentile: float = Field(default=99.99, gt=50, le=100)
    granularity: Literal["tensor", "channel"] = "tensor"
    packing: Literal["none", "bytes", "words"] = "none"
    codec: Literal["raw", "zlib-huffman", "rans", "rans-context"] = "rans-context"
    maximum_loss_points: float = Field(default=1.0, ge=0)


class TrainingSection(_Section):
    """`[training]`: how a network is trained, or trained on after pruning."""

    optimizer: Literal["sgd", "adamw"] = "sgd"
    learning_rate: float = Field(default=1e-3, gt=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    weight_decay: float = Field(default=5e-4, ge=0)
    schedule: Literal["constant", "cosine", "one-cycle"] = "constant"
    batch_images: int = Field(default=32, ge=1)
    shift_pixels: int = Field(default=0, ge=0)
    flip: bool = False
    device: Literal["auto", "cpu", "cuda"] = "auto"
    mixed_precision: bool = True
    loss: str = "cross-entropy"
    distillation_weight: float = Field(default=0.0, ge=0, le=1)
    distillation_temperature: float = Field(default=4.0, gt=0)
    validation_share: float = Field(default=0.1, gt=0, le=0.5)
    patience: int | None = Field(default=None, ge=1)
    seed: int = Field(default=0, ge=0, lt=2**32)
    threads: int | None = Field(default=None, ge=1)

    @field_validator("loss")
    @classmethod
    def _known(cls, value: str) -> str:
        if value != CROSS_ENTROPY and ":" not in value:
            raise ValueError(f'"{value}" is neither "{CROSS_ENTROPY}" nor a "package.module:function"')
        return value


CriterionName = Literal["taylor", "taylor-absolute", "taylor-before-norm", "l1-norm", "geometric-median", "random"]


class PruneSection(_Section):
    """`[prune]`: what `coopexport prune two-step` removes, how it trains in between, and when it stops."""

    criterion: CriterionName = "taylor"
    score_images: int | None = Field(default=None, ge=1)
    normalisation: Literal["l2", "rank"] = "l2"
    removed_share: float = Field(default=1 / 16, gt=0, lt=1)
    epochs: float = Field(default=2.0, gt=0)
    final_epochs: float = Field(default=3.0, ge=0)
    maximum_loss_points: float = Field(default=1.8, ge=0)
    least_left: float = Field(default=0.2, gt=0, lt=1)
    macs_reduction: float | None = Field(default=None, gt=1)
    rounds: int | None = Field(default=None, ge=1)
    widths: int = Field(default=15, ge=1)
    step_two_epochs: float = Field(default=2.0, gt=0)
    step_two_learning_rate: float | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _rounds_need_a_target(self) -> PruneSection:
        if self.rounds is not None and self.macs_reduction is None:
            raise ValueError("rounds needs macs_reduction, the goal that they lead to")
        return self


class BottleneckSection(_Section):
    """`[bottleneck]`: how far `coopexport bottleneck` reduces a feature, and how it trains for that."""

    maximum_loss_points: float = Field(default=1.0, ge=0)
    trainings: int = Field(default=6, ge=1)
    stride: Literal[1, 2, 4] = 2
    channels: int | None = Field(default=None, ge=1)
    bits: int = Field(default=3, ge=1, le=8)
    rate_weight: float = Field(default=4e-4, gt=0)
    feature_weight: float = Field(default=0.1, ge=0)
    distillation_weight: float = Field(default=0.5, ge=0, le=1)
    tail: Literal["fine-tuned", "frozen"] = "fine-tuned"
    first_epochs: float = Field(default=6.0, gt=0)
    epochs: float = Field(default=3.0, gt=0)
    learning_rate: float | None = Field(default=None, gt=0)


Precision = Literal["fp32", "fp16", "int8"]
Batches = tuple[PositiveInt, PositiveInt, PositiveInt]
_Version = Annotated[str, Field(pattern=r"^\d+(\.\d+){1,3}$")]


def _in_order(batches: Batches | None) -> Batches | None:
    if batches is not None and not batches[0] <= batches[1] <= batches[2]:
        raise ValueError("batches are min, opt and max, in this order")
    return batches


class BuildSection(_Section):
    """`[build]`: what to build for when no `--target` is given, and how, where a target says nothing else."""

    targets: tuple[str, ...] = ("cpu",)
    precision: Precision = "fp32"
    batches: Batches = (1, 1, 1)

    _order = field_validator("batches")(_in_order)


class TargetSection(_Section):
    """`[targets.<name>]`: a target of the project's own, or another setting for one that is there.

    `base`: the target that it is but for the keys given here; without it the one of the same name.
    """

    base: str | None = None
    description: str | None = None
    precision: Precision | None = None
    batches: Batches | None = None
    workspace_bytes: PositiveInt | None = None
    dla_core: int | None = Field(default=None, ge=0)
    gpu_fallback: bool | None = None
    optimization_level: int | None = Field(default=None, ge=0, le=5)
    power_mode: str | None = None
    simplify: bool | None = None
    tensorrt: _Version | None = None
    compute_capability: _Version | None = None
    dla_cores: int | None = Field(default=None, ge=0)
    memory_bytes: PositiveInt | None = None

    _order = field_validator("batches")(_in_order)


class BenchSection(_Section):
    """`[bench]`: how often to measure, and how many rounds come before at least: they go on until all is steady.

    `precisions`: in which networks are measured, where `coopexport precision` made them; `batches`: images at once.
    `memory`: whether each engine is loaded and run once more, in a process of its own, for its peak memory. `energy`:
    whether each part runs by itself for `energy_seconds` while power is read; None: on devices whose board shows its
    power.
    """

    rounds: int = Field(default=100, ge=8)
    warm_up: int = Field(default=10, ge=1)
    precisions: tuple[Precision, ...] = Field(default=("fp32",), min_length=1)
    batches: tuple[PositiveInt, ...] = Field(default=(1,), min_length=1)
    memory: bool = True
    energy: bool | None = None
    energy_seconds: float = Field(default=1.0, gt=0)

    @field_validator("precisions", "batches")
    @classmethod
    def _each_once(cls, values: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(dict.fromkeys(values))


Quality = Annotated[int, Field(ge=1, le=100)] | Literal["lowest"]


PositiveFloat = Annotated[float, Field(gt=0)]
_LoadName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]


class SelectSection(_Section):
    """`[select]`: links, bounds, what may be chosen, and what is known of the device.

    `goodput_bps`: of links by name, where there are no sections `[links.<name>]`; `protocol`: what carries messages.
    `device_target`: whose rows of the latency table are the device's times; what it has none of is the edge's time,
    times `device_slowdown`. `maximum_latency_ms`: choose the most accurate candidate within it, and not the fastest.
    `batch`: images that are computed at once; latencies are those of the batch. `cuts`: layers by variants, both as
    patterns: where these variants may be cut. `device_loads`, `edge_loads`: factors on the times of a machine by the
    name of a load.
    """

    goodput_bps: dict[str, float] = Field(
        default_factory=lambda: {"3G": 1_100_000.0, "4G": 5_850_000.0, "WiFi": 18_880_000.0}
    )
    protocol: Protocol = "framed"
    device_slowdown: float = Field(default=5.0, gt=0)
    device_target: str | None = None
    round_trip_ms: float = Field(default=0.0, ge=0)
    goodput_samples_bps: tuple[PositiveFloat, ...] = ()
    latency_percentile: float = Field(default=95.0, gt=0, le=100)
    maximum_loss_points: float = Field(default=1.0, ge=0)
    maximum_latency_ms: float | None = Field(default=None, gt=0)
    maximum_device_memory_bytes: float | None = Field(default=None, gt=0)
    maximum_device_mj: float | None = Field(default=None, gt=0)
    batch: int = Field(default=1, ge=1)
    precisions: tuple[Precision, ...] = ()
    upload: bool = True
    cuts: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    device_loads: dict[_LoadName, PositiveFloat] = Field(default_factory=dict)
    edge_loads: dict[_LoadName, PositiveFloat] = Field(default_factory=dict)
    hysteresis_percent: float = Field(default=5.0, ge=0)
    jpeg_quality: Quality = "lowest"
    webp_quality: Quality = "lowest"

    @field_validator("goodput_bps")
    @classmethod
    def _positive(cls, value: dict[str, float]) -> dict[str, float]:
        for name, goodput_bps in value.items():
            if not 0 < goodput_bps < float("inf"):
                raise ValueError(f"the goodput of {name} must be a positive number of bits per second")
        if not value:
            raise ValueError("name at least one link")
        return value


class ProjectFile(_Section):
    """Everything in `coopexport.toml`."""

    model: ModelSection
    preprocessing: dict[str, Any] = Field(default_factory=dict)
    data: DataSection = DataSection()
    training: TrainingSection = TrainingSection()
    prune: PruneSection = PruneSection()
    bottleneck: BottleneckSection = BottleneckSection()
    split: SplitSection = SplitSection()
    build: BuildSection = BuildSection()
    targets: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._@+-]*$")], TargetSection] = Field(
        default_factory=dict
    )
    bench: BenchSection = BenchSection()
    select: SelectSection = SelectSection()
    links: dict[Annotated[str, Field(pattern=r"^\S(.*\S)?$")], LinkSection] = Field(default_factory=dict)


@dataclass(frozen=True)
class Project:
    """A project file together with the folder that its paths are relative to."""

    folder: Path
    settings: ProjectFile
    preprocessing: Preprocessing

    @property
    def output(self) -> Path:
        """The folder for all that coopexport writes."""
        return self.folder / "out"

    def path(self, relative: str) -> Path:
        """Return a path of the project file, made absolute."""
        return self.folder / relative

    def variant_folder(self, variant: str) -> Path:
        """Return the folder of one variant of the network."""
        return self.output / variant


def find_project_file(start: Path) -> Path:
    """Return the nearest `coopexport.toml` at `start` or above it.

    Raises CoopexportError when there is none.
    """
    for folder in (start, *start.parents):
        if (folder / PROJECT_FILE).is_file():
            return folder / PROJECT_FILE
    raise InputError(
        f"there is no {PROJECT_FILE} in {start} or above it: change to the project's folder, pass "
        "--project FILE, or write one with: coopexport init"
    )


def load_project(path: Path | None = None) -> Project:
    """Read the project file at `path`, or the nearest one above the working directory.

    Raises CoopexportError naming the key when the file is missing, malformed or holds a wrong value.
    """
    file = find_project_file(Path.cwd()) if path is None else path
    try:
        content = tomllib.loads(file.read_bytes().decode("utf-8"))
    except (FileNotFoundError, IsADirectoryError):
        raise InputError(f"there is no project file {file}", path=file, fix="write one with: coopexport init") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{file} is not valid TOML: {error}", path=file) from None
    schema = content.pop("schema", None)
    if not isinstance(schema, str) or not same_major(schema, SCHEMA):
        raise InputError(f'{file}: schema is {schema!r}; this version reads schema = "{SCHEMA}"', path=file)
    try:
        settings = ProjectFile.model_validate(content)
        preprocessing = preprocessing_steps.from_json(settings.preprocessing)
    except ValidationError as error:
        raise InputError(f"{file}: {describe_validation(error, ProjectFile)}", path=file) from None
    except CoopexportError as error:
        raise reworded(error, f"{file}: {error}", path=file) from None
    return Project(file.resolve().parent, settings, preprocessing)


def describe_validation(error: ValidationError, root: type[BaseModel]) -> str:
    """Return the first problem that pydantic found, with the nearest known key for an unknown one."""
    # A misspelt key is the better explanation for a missing one.
    problem = min(error.errors(), key=lambda item: item["type"] != "extra_forbidden")
    key = ".".join(str(part) for part in problem["loc"])
    if problem["type"] != "extra_forbidden":
        return f"{key}: {problem['msg'].removeprefix('Value error, ')}"
    section: Any = root
    for part in problem["loc"][:-1]:
        # A section, or the name of one among several, which are the values of a dictionary.
        is_section = hasattr(section, "model_fields")
        section = section.model_fields[part].annotation if is_section else get_args(section)[1]
    known = sorted(section.model_fields)
    nearest = difflib.get_close_matches(str(problem["loc"][-1]), known, n=1)
    advice = f"did you mean {nearest[0]}?" if nearest else f"known are {', '.join(known)}"
    return f"{key} is not a known key; {advice}"
