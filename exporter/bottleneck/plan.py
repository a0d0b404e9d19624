"""A bottleneck on disk: where it is in which network, its weights, and the tables that its symbols are coded with."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict

from exporter.bottleneck.design import BottleneckDesign
from exporter.bundles.records import read_record
from exporter.project.freshness import digest
from jetson.errors import DamagedFileError, StaleError
from jetson.files.atomic_files import sha256_of_file, write_files
from jetson.files.json_files import encode_json
from jetson.wire.symbol_model import SymbolModel, model_from_bytes

if TYPE_CHECKING:
    import torch
    from torch import nn

    from exporter.bottleneck.insert import Place

SCHEMA = "coopexport.bottleneck/1.0"
BOTTLENECK_FILE = "bottleneck.json"
WEIGHTS_FILE = "weights.safetensors"
TABLES_FILE = "bottleneck.tables.bin"
_COMMAND = "coopexport bottleneck --replace"


class BottleneckFile(BaseModel):
    """`bottleneck.json`: a bottleneck behind operation `node` of the traced network of variant `parent`.

    `layer`: what it was asked for behind; `shape` of the feature there, without the batch dimension; `rectified`: the
    recovery ends in a ReLU. `weights`: of the whole network, the bottleneck's included. `tables`: the symbol model that
    was fitted along. `estimated_bytes`: of the body of a message, by the model that training counted.
    """

    model_config = ConfigDict(frozen=True)
    parent: str
    layer: str
    node: str
    shape: tuple[int, ...]
    rectified: bool
    stride: int
    channels: int
    bits: int
    tail: Literal["fine-tuned", "frozen"]
    made_from: dict[str, str]
    weights: str
    weights_sha256: str
    tables: str
    tables_sha256: str
    estimated_bytes: float

    @property
    def design(self) -> BottleneckDesign:
        """Return how far the feature is reduced."""
        return BottleneckDesign(self.stride, self.channels, self.bits)

    def network_digest(self) -> str:
        """Return a digest of the network: not of what it was made from."""
        return digest(self.model_dump(mode="json", exclude={"made_from", "estimated_bytes"}))


def write_bottleneck(folder: Path, file: BottleneckFile, weights: bytes, tables: bytes) -> None:
    """Write plan, weights and tables into `folder`, all or none; raises OSError."""
    plan = encode_json(SCHEMA, file.model_dump(mode="json"))
    write_files(str(folder), {WEIGHTS_FILE: weights, TABLES_FILE: tables, BOTTLENECK_FILE: plan})


def read_bottleneck(folder: Path) -> BottleneckFile:
    """Read the plan in `folder`; raises CoopexportError when it is missing or malformed."""
    return read_record(BottleneckFile, folder / BOTTLENECK_FILE, SCHEMA, f"make it anew with: {_COMMAND}")


def read_tables(folder: Path, file: BottleneckFile) -> SymbolModel:
    """Return the symbol model of a bottleneck; raises CoopexportError when it is missing or not the recorded one."""
    path = folder / file.tables
    if not path.is_file() or sha256_of_file(str(path)) != file.tables_sha256:
        raise _other_file(path)
    return model_from_bytes(path.read_bytes())


def place_of(file: BottleneckFile) -> Place:
    """Return where the bottleneck goes."""
    from exporter.bottleneck.insert import Place

    return Place(file.layer, file.node, file.shape, file.rectified)


def encode_network(module: nn.Module) -> bytes:
    """Return what the weights' file of a network with a bottleneck holds: not the counts of its training."""
    from safetensors.torch import save

    kept = {name: tensor for name, tensor in module.state_dict().items() if not _is_counts(name)}
    return save({name: tensor.clone().contiguous() for name, tensor in kept.items()})


def _is_counts(name: str) -> bool:
    return name.endswith("bottleneck_quantiser.counts")


def rebuild_bottleneck(folder: Path, parent: nn.Module, inputs: torch.Tensor) -> nn.Module:
    """Return the network with the bottleneck in `folder`, in eval mode; rounding is left to the encoding at the cut.

    `parent`: the network of the variant that it was put into; `inputs`: what that takes, N x ..., to trace it with.
    Raises CoopexportError when a file is missing or its hash is not the recorded one, or the parent is another network.
    """
    from exporter.bottleneck.insert import insert
    from exporter.project.checkpoint import load_weights, read_state_dict

    file = read_bottleneck(folder)
    path = folder / file.weights
    if not path.is_file():
        raise StaleError(f"{path} is missing", path=path, fix=f"run: {_COMMAND}")
    if sha256_of_file(str(path)) != file.weights_sha256:
        raise _other_file(path)
    module = insert(parent, inputs, place_of(file), file.design).graph_module
    load_weights(module, read_state_dict(path), str(path))
    return module.eval()


def _other_file(path: Path) -> DamagedFileError:
    return DamagedFileError(f"{path} is not the file that {BOTTLENECK_FILE} names", path=path, fix=f"run: {_COMMAND}")
