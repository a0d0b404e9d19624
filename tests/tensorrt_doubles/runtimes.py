"""Runtime, engines and contexts: they execute, through ONNX Runtime, on memory at the addresses that they are given."""

import json

import numpy as np
from tensorrt_doubles.engine_file import decode_engine
from tensorrt_doubles.strict_classes import check_type

_DTYPES = {"FLOAT": "float32", "HALF": "float16", "INT8": "int8", "INT32": "int32", "INT64": "int64"}
_DTYPES.update({"UINT8": "uint8", "BOOL": "bool"})
_ORT = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(int8)": "int8", "tensor(int32)": "int32"}
_ORT.update({"tensor(int64)": "int64", "tensor(uint8)": "uint8", "tensor(bool)": "bool", "tensor(double)": "float64"})
_WORDS = {"FLOAT": "Float", "HALF": "Half", "INT8": "Int8", "INT32": "Int32", "INT64": "Int64", "UINT8": "UInt8"}


class Runtime:
    """Takes engines of its own version and GPU; says None to others, and logs why."""

    def __init__(self, logger):
        self._world = self._m._world
        self._world.use_logger(logger, self._m.ILogger)
        self._world.check_driver("Runtime")
        self._core = -1

    num_DLA_cores = property(lambda self: self._world.dla_cores)

    def _set_core(self, core):
        check_type("DLA_core", core, int)
        self._core = core

    DLA_core = property(lambda self: self._core, _set_core)

    def deserialize_cuda_engine(self, serialized_engine):
        check_type("deserialize_cuda_engine", serialized_engine, bytes, bytearray, memoryview)
        world = self._world
        world.deserialised += 1
        try:
            model, settings = decode_engine(bytes(serialized_engine), world.backend, world.numbers)
        except (ValueError, IndexError) as error:
            world.log("ERROR", "IRuntime::deserializeCudaEngine: Error Code 1: Serialization ({})".format(error))
            return None
        if not world.is_rtx and settings["compute_capability"] != world.compute_capability:
            world.log(
                "ERROR",
                "The engine plan file is generated on an incompatible device, expecting compute {} got compute {}, "
                "please rebuild.".format(world.compute_capability, settings["compute_capability"]),
            )
            return None
        return self._m.ICudaEngine(world, model, settings)


class ICudaEngine:
    """An engine: its ONNX file, and the ends that the builder noted."""

    def __init__(self, world, model, settings):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self._world, self._settings = world, settings
        self._inputs, self._outputs = settings["inputs"], settings["outputs"]
        self._all = self._inputs + self._outputs

    num_bindings = property(lambda self: len(self._all))
    num_io_tensors = property(lambda self: len(self._all))
    num_layers = property(lambda self: len(self._settings["layers"]))
    num_optimization_profiles = property(lambda self: 1)

    def create_execution_context(self):
        return self._m.IExecutionContext(self)

    def create_engine_inspector(self):
        return self._m.EngineInspector(self)

    def get_binding_name(self, index):
        check_type("get_binding_name", index, int)
        return self._all[index][0]

    def get_binding_dtype(self, index):
        check_type("get_binding_dtype", index, int)
        return getattr(self._m.DataType, self._all[index][1])

    def get_binding_shape(self, index):
        check_type("get_binding_shape", index, int)
        return self._m.Dims(self._all[index][2])

    def binding_is_input(self, index):
        check_type("binding_is_input", index, int)
        return index < len(self._inputs)

    def get_profile_shape(self, profile_index, binding):
        check_type("get_profile_shape", profile_index, int)
        return self._profile(self._all[binding][0], profile_index)

    def get_tensor_name(self, index):
        check_type("get_tensor_name", index, int)
        return self._all[index][0]

    def get_tensor_dtype(self, name):
        return getattr(self._m.DataType, self._end(name)[1])

    def get_tensor_shape(self, name):
        return self._m.Dims(self._end(name)[2])

    def get_tensor_mode(self, name):
        is_input = self._end(name) in self._inputs
        return self._m.TensorIOMode.INPUT if is_input else self._m.TensorIOMode.OUTPUT

    def get_tensor_profile_shape(self, name, profile_index):
        check_type("get_tensor_profile_shape", profile_index, int)
        return self._profile(self._end(name)[0], profile_index)

    def _profile(self, name, index):
        if index != 0:
            self._world.log("ERROR", "ICudaEngine::getProfileShape: profile {} does not exist".format(index))
            return []
        return [self._m.Dims(shape) for shape in self._settings["profile"][name]]

    def _end(self, name):
        check_type("get_tensor", name, str)
        return next(item for item in self._all if item[0] == name)


class IExecutionContext:
    """A run of an engine: input shapes, addresses, and execution."""

    def __init__(self, engine):
        self._engine, self._world = engine, engine._world
        self._shapes = {name: tuple(shape) for name, _, shape in engine._inputs}
        self._addresses = {}

    engine = property(lambda self: self._engine)

    def set_input_shape(self, name, shape):
        check_type("set_input_shape", name, str)
        return self._set_shape(name, shape)

    def set_binding_shape(self, binding, shape):
        check_type("set_binding_shape", binding, int)
        return self._set_shape(self._engine._all[binding][0], shape)

    def _set_shape(self, name, shape):
        shape = tuple(int(size) for size in shape)
        least, _, most = self._engine._settings["profile"].get(name, [self._engine._end(name)[2]] * 3)
        fits = len(shape) == len(most) and all(low <= size <= high for low, size, high in zip(least, shape, most))
        if not fits:
            self._world.log("ERROR", "IExecutionContext::setInputShape: {} is outside of the profile".format(shape))
            return False
        self._shapes[name] = shape
        return True

    def get_tensor_shape(self, name):
        check_type("get_tensor_shape", name, str)
        return self._m.Dims(self._shape_of(name))

    def get_binding_shape(self, binding):
        check_type("get_binding_shape", binding, int)
        return self._m.Dims(self._shape_of(self._engine._all[binding][0]))

    def _shape_of(self, name):
        """Return the shape for the input shapes set now: the batch of the first dynamic input is every end's."""
        if name in self._shapes:
            return self._shapes[name]
        shape = tuple(self._engine._end(name)[2])
        dynamic = [item for item in self._engine._inputs if -1 in item[2]]
        batch = self._shapes[dynamic[0][0]][0] if dynamic else None
        return tuple(batch if size == -1 and batch is not None else size for size in shape)

    def set_tensor_address(self, name, memory):
        check_type("set_tensor_address", name, str)
        check_type("set_tensor_address", memory, int)
        self._addresses[name] = memory
        return True

    def execute_v2(self, bindings):
        check_type("execute_v2", bindings, list, tuple)
        for address in bindings:
            check_type("execute_v2", address, int)
        addresses = {item[0]: address for item, address in zip(self._engine._all, bindings)}
        if len(bindings) != len(self._engine._all) or not self._ready(addresses):
            return False
        self._run(addresses)
        self._world.memory.spend("run")
        return True

    def execute_async_v2(self, bindings, stream_handle):
        check_type("execute_async_v2", stream_handle, int)
        addresses = {item[0]: address for item, address in zip(self._engine._all, bindings)}
        if not self._ready(addresses):
            return False
        self._world.memory.queue(stream_handle, lambda: self._run(addresses), "run")
        return True

    def execute_async_v3(self, stream_handle):
        check_type("execute_async_v3", stream_handle, int)
        addresses = dict(self._addresses)
        if not self._ready(addresses):
            return False
        self._world.memory.queue(stream_handle, lambda: self._run(addresses), "run")
        return True

    def _ready(self, addresses):
        """Tell whether shapes and addresses are all there; memory that is too small is misuse, as nobody would tell."""
        missing = [item[0] for item in self._engine._all if not addresses.get(item[0])]
        unknown = [name for name, shape in self._shapes.items() if -1 in shape]
        if missing or unknown:
            self._world.log("ERROR", "IExecutionContext::enqueue: no address or shape for {}".format(missing + unknown))
            return False
        for name, dtype, _ in self._engine._all:
            size = int(np.prod(self._shape_of(name), dtype=np.int64)) * np.dtype(_DTYPES[dtype]).itemsize
            memory = self._world.memory
            memory._check(size <= memory.room(addresses[name]), "'{}' has too little memory".format(name))
        return True

    def _run(self, addresses):
        memory = self._world.memory
        session, given = self._engine._session, {}
        for (name, dtype, _), item in zip(self._engine._inputs, session.get_inputs()):
            shape = self._shape_of(name)
            array = np.frombuffer(self._read(addresses[name], shape, dtype), _DTYPES[dtype]).reshape(shape)
            given[name] = array.astype(_ORT[item.type])
        results = session.run([item[0] for item in self._engine._outputs], given)
        for (name, dtype, _), result in zip(self._engine._outputs, results):
            memory.write(addresses[name], np.ascontiguousarray(result.astype(_DTYPES[dtype])).tobytes())

    def _read(self, address, shape, dtype):
        size = int(np.prod(shape, dtype=np.int64)) * np.dtype(_DTYPES[dtype]).itemsize
        return self._world.memory.read(address, size)


class EngineInspector:
    """Tells of an engine's layers, in the keys of its version."""

    def __init__(self, engine):
        self._engine = engine

    def get_engine_information(self, format):
        check_type("get_engine_information", format, self._m.LayerInformationFormat)
        engine = self._engine
        layers = [self._layer(*layer) for layer in engine._settings["layers"]]
        names = [item[0] for item in engine._all]
        if engine._world.always_typed:
            ends = [{"Name": name, "DataType": _WORDS.get(dtype, dtype)} for name, dtype, _ in engine._all]
            return json.dumps({"Layers": layers, "I/O Tensors": ends})
        return json.dumps({"Layers": layers, "Bindings": names})

    def _layer(self, name, operator, dtype):
        if not self._engine._settings["detailed"]:
            return name
        word = _WORDS.get(dtype or "FLOAT", dtype)
        if self._engine._world.always_typed:
            output = {"Name": name + "_output", "Format": "Row major linear", "DataType": word}
        else:
            output = {"Name": name + "_output", "Format/Datatype": word}
        return {
            "Name": name,
            "LayerType": operator,
            "Inputs": [],
            "Outputs": [output],
            "TacticName": "double_{}".format(operator.lower()),
            "Metadata": "[ONNX Layer: {}]".format(name),
        }
