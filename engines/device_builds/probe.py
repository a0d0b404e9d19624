"""What a device is, looked at over ssh."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from engines.device_builds.remote import probe_device
from jetson.engines.machine import Machine, machine_from_json
from jetson.errors import DeviceError


@dataclass(frozen=True)
class ProbeRequest:
    """Which device: "user@host" or "user@host:port"."""

    device: str


@dataclass(frozen=True)
class ProbeResult:
    """What a device is.

    `machine`: as in engines' identities. `unknown`: by name, why something is not known. `record`: all that the agent
    found out, as `coopexport.probe/1.0` holds it (docs/formats.md): JetPack, versions, power mode, clocks, memory
    (bytes), temperatures (Celsius).
    """

    device: str
    machine: Machine
    unknown: Mapping[str, str]
    record: Mapping[str, Any]


def probe_over_ssh(request: ProbeRequest) -> ProbeResult:
    """Have the agent look at a device: board, TensorRT, power mode, memory; it is copied there first where it lacks.

    Raises CoopexportError when the device cannot be reached, has no python3, or does not say what it is.
    """
    record = probe_device(request.device)
    try:
        machine, unknown = machine_from_json(record["machine"]), dict(record["unknown"])
    except (KeyError, TypeError, ValueError) as error:
        raise DeviceError(f"{request.device} does not say what machine it is ({error!r})") from None
    return ProbeResult(request.device, machine, unknown, record)
