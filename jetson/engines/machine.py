"""What a machine is, as far as engines are concerned: what decides whether an engine can be built or loaded on it."""

from typing import Any, Dict, NamedTuple, Optional


class Machine(NamedTuple):
    """One machine. What could not be found out is None, and says so in words where it is needed.

    `operating_system`: "Linux"; `architecture`: "aarch64" or "x86_64". `board`: "NVIDIA Jetson Orin Nano Developer
    Kit"; `chip`: "tegra234"; `l4t`: "36.4.3"; all three only on a Jetson. `gpu`: "NVIDIA GeForce RTX 4090" elsewhere.
    `compute_capability`: "8.7". `driver` and `cuda`: versions. `backends`: exact version by backend name
    ("tensorrt", "tensorrt-rtx", "onnxruntime"), of those that are usable.
    """

    operating_system: str
    architecture: str
    board: Optional[str] = None
    chip: Optional[str] = None
    l4t: Optional[str] = None
    gpu: Optional[str] = None
    compute_capability: Optional[str] = None
    driver: Optional[str] = None
    cuda: Optional[str] = None
    backends: Dict[str, str] = {}

    @property
    def platform(self) -> str:
        """Return operating system and architecture: engines never move between two of these."""
        return "{} {}".format(self.operating_system, self.architecture)

    def to_json(self) -> Dict[str, Any]:
        """Return the machine as it stands in identities and latency runs, without what is not known."""
        return {key: value for key, value in self._asdict().items() if value not in (None, {})}


def machine_from_json(content: Any) -> Machine:
    """Return the machine that `to_json` wrote; what this version does not know is left out.

    Raises ValueError for anything else.
    """
    if not isinstance(content, dict):
        raise ValueError("the machine is not an object")
    known = {key: value for key, value in content.items() if key in Machine._fields}
    for key, value in known.items():
        if key == "backends":
            if not isinstance(value, dict) or not all(isinstance(version, str) for version in value.values()):
                raise ValueError("the machine's backends are not versions by name")
        elif not isinstance(value, str) or not value:
            raise ValueError("the machine's {} is not text".format(key))
    for key in ("operating_system", "architecture"):
        if key not in known:
            raise ValueError("the machine lacks its {}".format(key))
    return Machine(**known)
