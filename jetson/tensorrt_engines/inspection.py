"""What TensorRT made of a network: one entry per layer of the engine, from its own inspector."""

import json
from typing import Any, Dict, List, NamedTuple, Optional

from jetson.errors import UnsupportedError, one_line
from jetson.tensorrt_engines.library import Library

_DTYPES = {"float": "float32", "fp32": "float32", "half": "float16", "fp16": "float16", "bool": "bool"}
_DTYPES.update({name: name for name in ("int8", "uint8", "int32", "int64")})


class LayerInformation(NamedTuple):
    """One layer of an engine, which may be several of the graph's in one kernel. What is not told is None.

    `kind`: TensorRT's own ("CaskConvolution"); `dtypes`: of its outputs; `tactic`: the kernel;
    `graph_layers`: where it came from, as TensorRT notes it.
    """

    name: str
    kind: Optional[str] = None
    dtypes: Optional[List[str]] = None
    tactic: Optional[str] = None
    graph_layers: Optional[str] = None


def describe_layers(library: Library, engine: Any) -> List[LayerInformation]:
    """Return the layers of a loaded engine (`EngineRunner.engine`); raises CoopexportError when there is no account.

    Only names where an engine was built without detailed verbosity.
    """
    text = engine.create_engine_inspector().get_engine_information(library.module.LayerInformationFormat.JSON)
    try:
        layers = json.loads(text)["Layers"]
        return [_layer(item) for item in layers]
    except (ValueError, KeyError, TypeError) as error:
        raise UnsupportedError(
            "{} {} gives no readable account of the engine ({})".format(library.title, library.version, one_line(error))
        ) from None


def _layer(item: Any) -> LayerInformation:
    if isinstance(item, str):
        return LayerInformation(item)
    outputs = [_dtype(output) for output in item.get("Outputs", ())]
    return LayerInformation(
        item["Name"],
        item.get("LayerType"),
        [dtype for dtype in outputs if dtype is not None] if "Outputs" in item else None,
        item.get("TacticName") or None,
        item.get("Metadata") or None,
    )


def _dtype(output: Dict[str, Any]) -> Optional[str]:
    """Return the dtype of one output in NumPy's name, or as TensorRT writes it where it is not one of these.

    A key of its own in TensorRT 11, one with the memory layout before: "Half", or "Row major linear FP16 format".
    """
    text = str(output.get("DataType", output.get("Datatype", output.get("Format/Datatype", ""))))
    for word in text.split():
        if word.lower() in _DTYPES:
            return _DTYPES[word.lower()]
    return text or None
