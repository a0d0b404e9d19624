"""Engines that lie in files of their own while they are measured: read, checked by their hash, loaded."""

import os
from typing import Any, Dict, NamedTuple

from jetson.agent.engine_maker import Maker, load_item
from jetson.engines.build_settings import settings_from_json
from jetson.errors import StaleError
from jetson.files.atomic_files import sha256_of_bytes
from jetson.requests.build_request import EngineSpec


class BuiltFile(NamedTuple):
    """An engine to load: its file, its SHA-256, and its settings as JSON."""

    path: str
    sha256: str
    settings: Dict[str, Any]


def load_file(maker: Maker, item: EngineSpec, file: BuiltFile) -> Any:
    """Return an item's engine, loaded, as `load_item` does; raises CoopexportError, too, when it is not that file."""
    with open(file.path, "rb") as source:
        data = source.read()
    if sha256_of_bytes(data) != file.sha256:
        raise StaleError("{} was changed meanwhile".format(os.path.basename(file.path)), fix="run this again")
    return load_item(maker, item, data, settings_from_json(file.settings).dla_core)
