"""The shrink plan: what is left of each module, enough to rebuild the small network without pickle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, model_validator

from exporter.bundles.records import read_record
from exporter.project.freshness import digest, recorded
from jetson.files.atomic_files import write_files
from jetson.files.json_files import encode_json

if TYPE_CHECKING:
    from torch import nn

SCHEMA = "coopexport.shrink-plan/2.1"
PLAN_FILE = "shrink.json"
WEIGHTS_FILE = "weights.safetensors"
MASKS_FILE = "masks.safetensors"

# Stands in a slot that holds no channel.
EMPTY_SLOT = -1


class LayerPlan(BaseModel):
    """What is left of one module; indices count the unpruned module's channels.

    `kept_inputs` are in the order in which they arrive. A grouped convolution whose groups are no longer alike has
    slots: `input_slots` and `output_slots` say, group by group, which position of `kept_inputs` and `kept_outputs`
    takes part (-1 for none). `zeroed_outputs` stay although they are masked, and give zero. Inputs that were removed
    as constants other than zero are `folded_inputs`, with their `folded_constants`: into the bias, or, where zero
    padding makes a difference, into a map of one bias per position for inputs of `folded_over` positions.
    """

    model_config = ConfigDict(frozen=True)
    kind: Literal["convolution", "linear", "batch_norm", "prelu", "group_norm", "instance_norm"]
    kept_outputs: tuple[int, ...]
    kept_inputs: tuple[int, ...]
    groups: int = 1
    input_slots: tuple[int, ...] = ()
    output_slots: tuple[int, ...] = ()
    zeroed_outputs: tuple[int, ...] = ()
    folded_inputs: tuple[int, ...] = ()
    folded_constants: tuple[float, ...] = ()
    folded_over: tuple[int, ...] = ()


class ParameterPlan(BaseModel):
    """What is left of a parameter that belongs to no layer: the kept indices of each dimension that is cut."""

    model_config = ConfigDict(frozen=True)
    kept: dict[int, tuple[int, ...]]


class SilencePlan(BaseModel):
    """A mask behind a module: 0 or 1 for every kept channel, and the shape in which it is multiplied."""

    model_config = ConfigDict(frozen=True)
    mask: tuple[int, ...]
    shape: tuple[int, ...]


class KeptChannels(BaseModel):
    """Channels that a mask names and that stay all the same, and why."""

    model_config = ConfigDict(frozen=True)
    layer: str
    channels: tuple[int, ...]
    reason: str


class ShrinkPlan(BaseModel):
    """All that is needed, with a factory and weights, to rebuild a shrunk network.

    `silenced` names modules whose outputs are multiplied by a mask, because nothing in their parameters can make a
    masked channel that stays zero.
    """

    model_config = ConfigDict(frozen=True)
    layers: dict[str, LayerPlan]
    parameters: dict[str, ParameterPlan] = {}
    silenced: dict[str, SilencePlan] = {}
    kept_although_masked: tuple[KeptChannels, ...] = ()


class ShrinkFile(ShrinkPlan):
    """A shrink plan as a file: with its factory, what it was made from, and what was proven about it."""

    factory: str
    arguments: dict[str, Any]
    made_from: dict[str, str]
    masks_from: str = "file"  # where the masks were read: a file, or the checkpoint itself
    masks_file: str | None = None  # where it was not the project's
    effective_masks_sha256: str | None = None  # of the masks beside this plan, which the network stands for
    options: dict[str, Any] = {}
    weights: str
    weights_sha256: str
    parity: tuple[dict[str, Any], ...]

    @model_validator(mode="before")
    @classmethod
    def _of_an_earlier_version(cls, content: Any) -> Any:
        """Take `made_from` of a plan of version 2.0 from the hashes that it has."""
        if not isinstance(content, dict) or "made_from" in content or "checkpoint_sha256" not in content:
            return content
        hashes = {"checkpoint": content["checkpoint_sha256"], "masks": content.get("masks_sha256")}
        return {**content, "made_from": recorded(hashes)}

    def network_digest(self) -> str:
        """Return a digest of the network that the plan describes: not of what it was made from, or what was proven."""
        described = self.model_dump(mode="json", include={*ShrinkPlan.model_fields, "factory", "arguments"})
        return digest([described, self.weights_sha256])


def encode_weights(network: nn.Module) -> bytes:
    """Return what the weights' file of a shrunk network holds."""
    from safetensors.torch import save

    # Cloned: a module that has two names shares its memory, which safetensors refuses.
    return save({name: tensor.clone().contiguous() for name, tensor in network.state_dict().items()})


def write_shrink_plan(folder: Path, file: ShrinkFile, weights: bytes, masks: bytes | None = None) -> None:
    """Write plan, weights and masks into `folder`, all or none; raises OSError."""
    plan = encode_json(SCHEMA, file.model_dump(mode="json"))
    files = {WEIGHTS_FILE: weights} if masks is None else {WEIGHTS_FILE: weights, MASKS_FILE: masks}
    write_files(str(folder), {**files, PLAN_FILE: plan})


def read_shrink_plan(folder: Path) -> ShrinkFile:
    """Read the plan in `folder`; raises CoopexportError when it is missing or malformed."""
    return read_record(ShrinkFile, folder / PLAN_FILE, SCHEMA, "write it anew with: coopexport shrink")
