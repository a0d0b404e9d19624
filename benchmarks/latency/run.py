"""Latency runs on disk: every sample as it was taken, with all that it depends on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from exporter.bundles.records import read_record
from jetson.files.json_files import write_json

SCHEMA = "coopexport.latency-run/1.1"


_Number = Annotated[float, Field(ge=0, allow_inf_nan=False)]
_Sample = _Number


class GpuMs(BaseModel):
    """Medians of what runs on a GPU are made of: `inputs` to it, `compute`, `outputs` back, between events on it.

    `enqueue`: of the processor, until a run is handed over; None where that waits for the run.
    """

    model_config = ConfigDict(frozen=True)
    inputs: _Number
    compute: _Number
    outputs: _Number
    enqueue: _Number | None = None


class RunItem(BaseModel):
    """One part of one candidate: its samples, or why there are none.

    `load_ms`: how long its engine took to load; `peak_memory_bytes`: the most memory that a process needed more while
    it loaded and ran that engine; None where nobody looked. `unknown`: by the name of such a field why it is absent,
    where somebody did. `unsteady`: why its warm-up did not end steady, in words; None where it did, or where nobody
    looked. `energy_mj`: of one run, all that the machine's power supplies delivered meanwhile; `energy_above_idle_mj`:
    without what they deliver while nothing runs. `gpu_ms`: what its runs are made of, of an engine on a GPU.
    """

    model_config = ConfigDict(frozen=True)
    variant: str
    layer: str
    part: str
    codec: str | None = None
    precision: str = "fp32"
    batch: int = 1
    source_sha256: str | None = None
    samples_ms: Annotated[tuple[_Sample, ...], Field(min_length=1)] | None = None
    failure: str | None = Field(default=None, min_length=1)
    load_ms: _Sample | None = None
    peak_memory_bytes: Annotated[int, Field(ge=0)] | None = None
    gpu_ms: GpuMs | None = None
    energy_mj: _Number | None = None
    energy_above_idle_mj: _Number | None = None
    unsteady: Annotated[str, Field(min_length=1)] | None = None
    unknown: dict[str, str] | None = None

    @model_validator(mode="after")
    def _samples_or_failure(self) -> RunItem:
        if (self.samples_ms is None) == (self.failure is None):
            raise ValueError("an item has either samples_ms or failure")
        return self


class LatencyRun(BaseModel):
    """One run on one host. `in_chains`: as a stream of images runs them (docs/formats.md).

    `warm_up`: rounds not kept, as they were taken; `steady`: whether all items had become steady by then, None where
    nobody looked. `affinity`: the numbers of the CPUs that it was allowed; empty where nobody looked. `conditions`:
    power mode, clocks, temperatures and throttling, before and after, where the device tells them, and how power was
    read where energies were measured. `reference`: the
    network that is in the rounds of every run; with a failure where the target does not take it; None in earlier runs.
    """

    model_config = ConfigDict(frozen=True)
    run: str
    started_at: str
    target: str
    host: dict[str, Any]
    backend: str
    backend_version: str
    threads: int
    warm_up: int
    rounds: int
    interleaved: bool
    in_chains: bool = False
    steady: bool | None = None
    affinity: tuple[int, ...] = ()
    conditions: dict[str, Any] = Field(default_factory=dict)
    reference: RunItem | None = None
    items: tuple[RunItem, ...]


def write_run(folder: Path, run: LatencyRun) -> Path:
    """Write a run under its id into `folder`; returns the path; raises OSError."""
    path = folder / f"{run.run}.json"
    write_json(str(path), SCHEMA, run.model_dump(mode="json", exclude_none=True))
    return path


def read_run(path: Path) -> LatencyRun:
    """Read a run; raises CoopexportError when it is missing or malformed."""
    return read_record(LatencyRun, path, SCHEMA)
