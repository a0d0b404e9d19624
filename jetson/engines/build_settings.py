"""The builder's settings: all that shapes an engine beside its graph."""

from typing import Any, Dict, NamedTuple, Optional, Tuple


class BuildSettings(NamedTuple):
    """How an engine is built. Precision is in the graph; TensorRT 8 is told of it by flags as well.

    `precision`: "fp32", "fp16" or "int8", the lowest that the graph holds. `batches`: min, opt and max samples at
    a time; three equal numbers are a static engine. `compute_capabilities`: for TensorRT-RTX, which builds ahead of
    time ("8.9"); classic TensorRT builds for the GPU that is there. `workspace_bytes`: None leaves it to TensorRT.
    `dla_core`: None for the GPU; with `gpu_fallback`, layers that the DLA cannot run go to the GPU.
    `optimization_level`: 0 to 5 where the version has it (8.6 on). `tf32`: off, as it keeps 10 bits of each factor.
    """

    precision: str = "fp32"
    batches: Tuple[int, int, int] = (1, 1, 1)
    compute_capabilities: Tuple[str, ...] = ()
    workspace_bytes: Optional[int] = None
    dla_core: Optional[int] = None
    gpu_fallback: bool = True
    optimization_level: Optional[int] = None
    tf32: bool = False

    @property
    def dynamic(self) -> bool:
        """Tell whether the engine takes more than one batch size."""
        return len(set(self.batches)) > 1

    def to_json(self) -> Dict[str, Any]:
        """Return the settings as an identity records them."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in self._asdict().items()}


def settings_from_json(content: Dict[str, Any]) -> BuildSettings:
    """Return the settings that `to_json` wrote; raises TypeError or ValueError for anything else."""
    known = dict(content)
    min_batch, opt_batch, max_batch = (int(value) for value in known["batches"])
    known["batches"] = (min_batch, opt_batch, max_batch)
    known["compute_capabilities"] = tuple(str(value) for value in known.get("compute_capabilities", ()))
    return BuildSettings(**known)
