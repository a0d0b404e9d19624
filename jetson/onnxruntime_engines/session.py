"""Sessions of ONNX Runtime, from 1.10 on: settings always explicit, one thread, one function from arrays to arrays."""

from typing import Any, Dict, List, Sequence

from jetson.errors import InputError, UnsupportedError, one_line

# What an engine's identity records: ONNX Runtime optimises when it loads, for the machine it is on.
FLAGS: Dict[str, Any] = {"optimisation": "all", "threads": 1, "tf32": False}
_LONGEST_REASON = 300


class SessionRunner:
    """A session as a function from arrays to arrays."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self._names = [item.name for item in session.get_inputs()]

    def __call__(self, arrays: Sequence[Any]) -> List[Any]:
        """Return the outputs for the inputs' arrays; raises CoopexportError with what ONNX Runtime said."""
        if self._session is None:
            raise InputError("this engine is closed", fix="load it again")
        if len(arrays) != len(self._names):
            raise InputError("the engine takes {} inputs, got {}".format(len(self._names), len(arrays)))
        try:
            return list(self._session.run(None, {name: arrays[index] for index, name in enumerate(self._names)}))
        except Exception as error:  # noqa: BLE001  its exception types are private
            raise UnsupportedError(
                "ONNX Runtime cannot run the engine: {}".format(one_line(error)[:_LONGEST_REASON])
            ) from None

    def close(self) -> None:
        """Let the session go."""
        self._session = None


def load_on_cpu(engine: bytes) -> SessionRunner:
    """Open an ONNX file in memory on the CPU, on one thread; raises CoopexportError when ONNX Runtime refuses it."""
    try:
        import onnxruntime
    except ImportError as error:
        raise UnsupportedError("ONNX Runtime cannot be imported ({})".format(one_line(error))) from None
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(engine, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # noqa: BLE001  its exception types are private
        raise UnsupportedError(
            "ONNX Runtime {} cannot load the graph: {}".format(
                onnxruntime.__version__, one_line(error)[:_LONGEST_REASON]
            )
        ) from None
    return SessionRunner(session)
