"""From an ONNX file to TensorRT's network, with all that its parser found wrong."""

from typing import Any, List, NamedTuple

from jetson.errors import InputError, UnsupportedError, one_line
from jetson.tensorrt_engines.library import Library, make
from jetson.tensorrt_engines.onnx_nodes import NodeName, node_names, weights_outside
from jetson.tensorrt_engines.tensor_info import Declared, TensorInfo, check_io_tensors, tensor_info_of

# More would hide the first; the count is told.
_MAX_ERRORS, _MAX_CHARACTERS = 20, 4000
_FEWEST_WORDS = 3


class Network(NamedTuple):
    """A parsed network, and what has to live as long: the parser holds a bare pointer into it."""

    builder: Any
    network: Any
    parser: Any
    strongly_typed: bool

    @property
    def inputs(self) -> List[TensorInfo]:
        """Return the inputs, in the graph's order."""
        return [tensor_info_of(self.network.get_input(index)) for index in range(self.network.num_inputs)]

    @property
    def outputs(self) -> List[TensorInfo]:
        """Return the outputs, in the graph's order."""
        return [tensor_info_of(self.network.get_output(index)) for index in range(self.network.num_outputs)]


def parse_network(
    library: Library,
    onnx_bytes: bytes,
    declared_inputs: Declared = None,
    declared_outputs: Declared = None,
    for_dla: bool = False,
) -> Network:
    """Return the network that TensorRT makes of a self-contained ONNX file.

    `declared_inputs` and `declared_outputs`: objects with name, dtype and shape (-1 where dynamic) that the network
    must show. `for_dla`: whether a DLA is to run it, see `strongly_typed`. Raises CoopexportError naming every node
    that the parser refused, and when weights are in other files, no network comes out, its inputs and outputs are
    others, or there is no usable driver.
    """
    library.forget()
    outside = weights_outside(onnx_bytes)
    if outside:
        # The parser would look for them in the working directory, and follow links out of it.
        raise InputError(
            "the graph keeps weights in other files ({})".format(", ".join(outside[:3])),
            fix="give it with its weights inside",
        )
    builder = make(library, library.module.Builder)
    typed = strongly_typed(library, for_dla)
    network = builder.create_network(_creation_flags(library, typed))
    if network is None:
        raise UnsupportedError("{} makes no network: {}".format(library.title, library.said("it does not say why")))
    parser = library.module.OnnxParser(network, library.logger)
    parsed = parser.parse(onnx_bytes)
    # Nothing, or a file of something else, parses "successfully" into a network without outputs.
    if not parsed or network.num_outputs == 0:
        raise UnsupportedError(
            "{} cannot read the graph: {}".format(library.title, _refusal(library, parser, onnx_bytes))
        )
    made = Network(builder, network, parser, typed)
    check_io_tensors(library.title, "input", made.inputs, declared_inputs)
    check_io_tensors(library.title, "output", made.outputs, declared_outputs)
    return made


def strongly_typed(library: Library, for_dla: bool = False) -> bool:
    """Tell whether a network keeps the graph's own dtypes (TensorRT 10 on); older ones choose.

    For a DLA TensorRT 10 gets the network and the flags that TensorRT 8 gets, the only way that is documented for it.
    """
    if for_dla and hasattr(library.module.BuilderFlag, "FP16"):
        return False
    return hasattr(library.module.NetworkDefinitionCreationFlag, "STRONGLY_TYPED")


def _creation_flags(library: Library, typed: bool) -> int:
    """Return the network's flags as bits. Their positions differ by version, so they are asked for by name."""
    bits = 0
    for name in ("EXPLICIT_BATCH", "STRONGLY_TYPED") if typed else ("EXPLICIT_BATCH",):
        flag = getattr(library.module.NetworkDefinitionCreationFlag, name, None)
        if flag is not None:
            bits |= 1 << int(flag)
    return bits


def _refusal(library: Library, parser: Any, onnx_bytes: bytes) -> str:
    """Return every error of the parser; what was logged, where that tells more."""
    nodes = node_names(onnx_bytes)
    errors = [parser.get_error(index) for index in range(parser.num_errors)]
    found: List[str] = []
    for error in errors:
        described = _describe(error, nodes)
        if described not in found:
            found.append(described)
    if len(found) > _MAX_ERRORS:
        found[_MAX_ERRORS:] = ["and {} more".format(len(found) - _MAX_ERRORS)]
    # Some descriptions are no more than the word "false", those of external data name the weight only.
    if not errors or any(len(error.desc().split()) < _FEWEST_WORDS for error in errors):
        found += library.errors()[:1]
    return "; ".join(found)[:_MAX_CHARACTERS] or "no network comes out of it"


def _describe(error: Any, nodes: List[NodeName]) -> str:
    """Return one error with the node's index, operator and name; TensorRT 8 knows of the index only."""
    index = error.node()
    known = nodes[index] if 0 <= index < len(nodes) else NodeName("", "")
    operator = (error.node_operator() if hasattr(error, "node_operator") else "") or known.operator
    name = (error.node_name() if hasattr(error, "node_name") else "") or known.name
    functions = list(error.local_function_stack()) if hasattr(error, "local_function_stack") else []
    inside = " inside {}".format(" > ".join(functions)) if functions else ""
    return one_line("node {} ({} {}{}): {}".format(index, operator, name, inside, error.desc()))
