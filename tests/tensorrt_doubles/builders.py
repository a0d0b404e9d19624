"""Builder, its configuration, and what it refuses to build."""

from tensorrt_doubles.engine_file import encode_engine
from tensorrt_doubles.strict_classes import check_type

RTX_MASK = {"SM75": 1, "SM80": 2, "SM86": 4, "SM89": 8, "SM120": 0x10, "SM121": 0x20}
_ON_DLA = ("Conv", "Relu", "MaxPool", "AveragePool", "Add", "Mul", "Concat", "Clip", "Sigmoid", "BatchNormalization")


class IHostMemory:
    """Bytes of the library's own."""

    def __init__(self, content):
        self._content = content

    nbytes = property(lambda self: len(self._content))

    def __bytes__(self):
        return self._content


class IOptimizationProfile:
    """Shapes of dynamic inputs. Shapes in a wrong order are dropped without a word."""

    def __init__(self):
        self._shapes = {}

    def set_shape(self, input, min, opt, max):
        check_type("set_shape", input, str)
        shapes = [tuple(int(size) for size in shape) for shape in (min, opt, max)]
        ordered = (
            all(low <= best <= high for low, best, high in zip(*shapes)) and len({len(one) for one in shapes}) == 1
        )
        if ordered and shapes[0][0] > 0:
            self._shapes[input] = shapes

    def get_shape(self, input):
        check_type("get_shape", input, str)
        return [self._m.Dims(shape) for shape in self._shapes.get(input, [])]


class ITimingCache:
    """Timings of one version and device."""

    def __init__(self, content):
        self._content = content

    def serialize(self):
        return self._m.IHostMemory(self._content)


class IProgressMonitor:
    """To be derived from."""

    def __init__(self):
        self._initialised = True


class IBuilderConfig:
    """The builder's settings."""

    def __init__(self, world):
        module = self._m
        self._world = world
        self._flags = {module.BuilderFlag.TF32}
        self._device, self._core = module.DeviceType.GPU, -1
        self._verbosity = module.ProfilingVerbosity.LAYER_NAMES_ONLY
        self._workspace, self._pools, self._level = 0, {}, 3
        self._profiles, self._cache, self._monitor = [], None, None
        self._capabilities = None

    def set_flag(self, flag):
        check_type("set_flag", flag, self._m.BuilderFlag)
        self._flags.add(flag)

    def clear_flag(self, flag):
        check_type("clear_flag", flag, self._m.BuilderFlag)
        self._flags.discard(flag)

    def get_flag(self, flag):
        check_type("get_flag", flag, self._m.BuilderFlag)
        return flag in self._flags

    def _typed(attribute, kind, name):
        def read(self):
            return getattr(self, attribute)

        def write(self, value):
            wanted = getattr(self._m, kind) if isinstance(kind, str) else kind
            check_type(name, value, wanted)
            setattr(self, attribute, value)

        return property(read, write)

    default_device_type = _typed("_device", "DeviceType", "default_device_type")
    DLA_core = _typed("_core", int, "DLA_core")
    profiling_verbosity = _typed("_verbosity", "ProfilingVerbosity", "profiling_verbosity")
    max_workspace_size = _typed("_workspace", int, "max_workspace_size")
    builder_optimization_level = _typed("_level", int, "builder_optimization_level")
    progress_monitor = _typed("_monitor", "IProgressMonitor", "progress_monitor")

    def set_memory_pool_limit(self, pool, pool_size):
        check_type("set_memory_pool_limit", pool, self._m.MemoryPoolType)
        check_type("set_memory_pool_limit", pool_size, int)
        self._pools[pool.name] = pool_size

    def add_optimization_profile(self, profile):
        check_type("add_optimization_profile", profile, self._m.IOptimizationProfile)
        self._profiles.append(profile)
        return len(self._profiles) - 1

    num_optimization_profiles = property(lambda self: len(self._profiles))

    def create_timing_cache(self, serialized_timing_cache):
        check_type("create_timing_cache", serialized_timing_cache, bytes, bytearray)
        return self._m.ITimingCache(bytes(serialized_timing_cache))

    def set_timing_cache(self, cache, ignore_mismatch):
        check_type("set_timing_cache", cache, self._m.ITimingCache)
        check_type("set_timing_cache", ignore_mismatch, bool)
        if cache._content and cache._content != self._own_timings() and not ignore_mismatch:
            self._world.log("WARNING", "The timing cache is of another version or device and is not used")
            return False
        self._cache = cache
        return True

    def get_timing_cache(self):
        return self._cache

    def _own_timings(self):
        return "timings of {} on {}".format(self._world.numbers, self._world.compute_capability).encode()

    def _count(self):
        return 0 if self._capabilities is None else len(self._capabilities)

    def _set_count(self, count):
        check_type("num_compute_capabilities", count, int)
        self._capabilities = [None] * count

    num_compute_capabilities = property(_count, _set_count)

    def set_compute_capability(self, compute_capability, index):
        check_type("set_compute_capability", compute_capability, self._m.ComputeCapability)
        check_type("set_compute_capability", index, int)
        if self._capabilities is None or index >= len(self._capabilities):
            return False
        if compute_capability.name not in RTX_MASK:
            return False
        self._capabilities[index] = compute_capability.name
        return True


class Builder:
    """Makes networks and engines. Classic TensorRT needs a GPU for it; TensorRT-RTX does not."""

    def __init__(self, logger):
        self._world = self._m._world
        self._world.use_logger(logger, self._m.ILogger)
        if not self._world.is_rtx:
            self._world.check_driver("Builder")

    num_DLA_cores = property(lambda self: self._world.dla_cores)
    platform_has_fast_fp16 = property(lambda self: True)
    platform_has_fast_int8 = property(lambda self: True)

    def create_network(self, flags=0):
        check_type("create_network", flags, int)
        numbers = self._m.NetworkDefinitionCreationFlag.__members__
        known = sum(1 << int(flag) for flag in numbers.values())
        if flags & ~known:
            self._world.log(
                "ERROR", "IBuilder::createNetworkV2: Error Code 3: API Usage Error (Parameter check failed)"
            )
            return None
        world = self._world
        typed = world.always_typed or (
            "STRONGLY_TYPED" in numbers and bool(flags & 1 << int(numbers["STRONGLY_TYPED"]))
        )
        explicit = not world.old or bool(flags & 1 << int(numbers["EXPLICIT_BATCH"]))
        return self._m.INetworkDefinition(world, typed, explicit)

    def create_builder_config(self):
        return self._m.IBuilderConfig(self._world)

    def create_optimization_profile(self):
        return self._m.IOptimizationProfile()

    def build_serialized_network(self, network, config):
        check_type("build_serialized_network", network, self._m.INetworkDefinition)
        check_type("build_serialized_network", config, self._m.IBuilderConfig)
        world = self._world
        reason = _refusal(self._m, world, network, config)
        if reason is not None:
            world.log("ERROR", reason)
            return None
        if not _tell(config):
            world.log("ERROR", "IBuilder::buildSerializedNetwork: the build was cancelled")
            return None
        if config._cache is not None:
            config._cache._content = config._own_timings()
        mask = sum(RTX_MASK[name] for name in config._capabilities or () if name)
        return self._m.IHostMemory(
            encode_engine(world.backend, world.numbers, network._onnx, _settings(network, config), mask)
        )


def _tell(config):
    """Tell the monitor of three steps; False when it asks to stop."""
    monitor = config._monitor
    if monitor is None:
        return True
    monitor.phase_start("Building engine", None, 3)
    for step in range(3):
        if not monitor.step_complete("Building engine", step):
            monitor.phase_finish("Building engine")
            return False
    monitor.phase_finish("Building engine")
    return True


def _settings(network, config):
    """Return what the engine keeps of its build."""
    return {
        "inputs": [[item.name, item._dtype, list(item._shape)] for item in network._inputs],
        "outputs": [[item.name, item._dtype, list(item._shape)] for item in network._outputs],
        "profile": {name: shapes for one in config._profiles[:1] for name, shapes in one._shapes.items()},
        "layers": [[node.name, node.operator, network._dtypes.get(node.outputs[0])] for node in network._model.nodes],
        "constraints": _constraints(network, config),
        "detailed": config._verbosity.name == "DETAILED",
        "flags": sorted(flag.name for flag in config._flags),
        "workspace_bytes": config._pools.get("WORKSPACE", config._workspace),
        "optimization_level": config._level,
        "dla_core": config._core if config._device.name == "DLA" else None,
        "compute_capability": config._world.compute_capability,
    }


def _constraints(network, config):
    """Return the layers that have to keep a precision; without one of two flags, wishes are ignored."""
    flags = {flag.name for flag in config._flags}
    if not flags & {"OBEY_PRECISION_CONSTRAINTS", "PREFER_PRECISION_CONSTRAINTS"}:
        return {}
    both = [(one._node.name, one._precision, one._output_type) for one in network._layers]
    return {name: precision.name for name, precision, out in both if precision is not None and precision == out}


def _refusal(module, world, network, config):
    """Return what the builder logs instead of building, or None."""
    flags = {flag.name for flag in config._flags}
    dynamic = [item.name for item in network._inputs if -1 in item._shape]
    shapes = config._profiles[0]._shapes if config._profiles else {}
    if not network._outputs:
        return "Network must have at least one output"
    if any(name not in shapes for name in dynamic):
        return "Network has dynamic or shape inputs, but no optimization profile has been defined."
    if network._typed and flags & {"FP16", "INT8", "BF16", "FP8"}:
        return "Error Code 3: API Usage Error (precision flags cannot be set for a strongly typed network)"
    if not network._typed:
        if network._holds("HALF") and "FP16" not in flags:
            return "fp16 precision has been set for a layer or layer output, but fp16 is not configured in the builder"
        if network._holds("INT8") and "INT8" not in flags:
            return "Int8 precision has been set for a layer or layer output, but int8 is not configured in the builder"
    if world.is_rtx and "SM75" in (config._capabilities or ()):
        for node in network._model.nodes:
            if node.operator == "Gemm" and network._dtypes.get(node.outputs[0]) == "FLOAT":
                return "{}: FP32 GEMM is not supported".format(node.name)
    if config._device.name == "DLA":
        return _dla_refusal(world, network, config, flags)
    return None


def _dla_refusal(world, network, config, flags):
    if config._core not in range(world.dla_cores):
        return "DLA core {} does not exist".format(config._core)
    if not network._typed and not flags & {"FP16", "INT8"}:
        return "DLA requires FP16 or INT8"
    unable = [node for node in network._model.nodes if node.operator not in _ON_DLA]
    if unable and "GPU_FALLBACK" not in flags:
        return "Layer {} is not supported on DLA and GPU fallback is not enabled".format(unable[0].name)
    return None
