"""Inputs and outputs of networks and engines: names, dtypes and shapes, as TensorRT has them and as graphs declare."""

from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

from jetson.errors import UnsupportedError

# NumPy's names of TensorRT's; those that NumPy lacks keep their own, in lower case.
_DTYPES = {"FLOAT": "float32", "HALF": "float16", "INT8": "int8", "INT32": "int32", "INT64": "int64"}
_DTYPES.update({"UINT8": "uint8", "BOOL": "bool", "BF16": "bfloat16"})
DYNAMIC = -1


class TensorInfo(NamedTuple):
    """An input or output. `dtype`: "float32"; `shape`: -1 where the size is given at run time (the batch)."""

    name: str
    dtype: str
    shape: Tuple[int, ...]

    def to_json(self) -> Dict[str, Any]:
        """Return it as identities record it."""
        return {"name": self.name, "dtype": self.dtype, "shape": list(self.shape)}

    def __str__(self) -> str:
        sizes = "x".join("?" if size == DYNAMIC else str(size) for size in self.shape)
        return "'{}' ({}, {})".format(self.name, self.dtype, sizes or "scalar")


Declared = Optional[Sequence[Dict[str, Any]]]


def dtype_name(dtype: Any) -> str:
    """Return NumPy's name of a TensorRT DataType; by its name, as the numbers behind the names differ by version."""
    name = str(dtype.name)
    return _DTYPES.get(name, name.lower())


def tensor_info_of(tensor: Any) -> TensorInfo:
    """Return what a network's input or output tensor is."""
    return TensorInfo(tensor.name, dtype_name(tensor.dtype), tuple(int(size) for size in tensor.shape))


def declared_tensors(declared: Sequence[Dict[str, Any]]) -> List[TensorInfo]:
    """Return what a graph declares, from objects with name, dtype and shape; any size but a positive one is dynamic."""
    return [
        TensorInfo(
            item["name"],
            item["dtype"],
            tuple(size if isinstance(size, int) and size > 0 else DYNAMIC for size in item["shape"]),
        )
        for item in declared
    ]


def check_io_tensors(title: str, what: str, found: Sequence[TensorInfo], declared: Declared) -> None:
    """Refuse inputs and outputs that are not what the graph declares; `declared` None checks nothing.

    TensorRT's parser changes dtypes without a word: float64 to float32, uint8 behind QuantizeLinear to int8.
    """
    if declared is None:
        return
    wanted = declared_tensors(declared)
    if list(found) == wanted:
        return
    for position in range(max(len(found), len(wanted))):
        now = str(found[position]) if position < len(found) else "nothing"
        was = str(wanted[position]) if position < len(wanted) else "nothing"
        if now != was:
            raise UnsupportedError("{} makes {} {} of what the graph declares as {}".format(title, what, now, was))
