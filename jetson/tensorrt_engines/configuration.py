"""The builder's configuration: every setting by the name that this version of TensorRT has for it, or refused."""

from typing import Any, Dict, List, Tuple

from jetson.engines.build_settings import BuildSettings
from jetson.errors import InputError, UnsupportedError
from jetson.tensorrt_engines.library import TENSORRT_RTX, Library
from jetson.tensorrt_engines.network import Network
from jetson.tensorrt_engines.precision import set_precision
from jetson.tensorrt_engines.tensor_info import DYNAMIC, TensorInfo

PRECISIONS = ("fp32", "fp16", "int8")
# TensorRT before 8.4 allows no workspace at all unless told, and then finds no kernel for some convolutions.
_OLD_DEFAULT_WORKSPACE_BYTES = 256 * 1024 * 1024


def check_supported(library: Library, settings: BuildSettings) -> None:
    """Refuse settings that no build of this library can follow, before any work; raises CoopexportError."""
    min_batch, opt_batch, max_batch = settings.batches
    if not 1 <= min_batch <= opt_batch <= max_batch:
        # TensorRT ignores such a profile without a word.
        raise InputError(
            "batch sizes {}, {}, {} are not in order: give min, opt and max, each at least 1".format(*settings.batches)
        )
    if settings.precision not in PRECISIONS:
        raise InputError('precision "{}" is not one of {}'.format(settings.precision, ", ".join(PRECISIONS)))
    if settings.optimization_level is not None and not 0 <= settings.optimization_level <= 5:
        raise InputError("optimization level {} is not one of 0 to 5".format(settings.optimization_level))
    if library.name == TENSORRT_RTX:
        if settings.dla_core is not None:
            raise UnsupportedError("TensorRT-RTX does not know the DLA", fix="build for a Jetson with classic TensorRT")
        if not settings.compute_capabilities:
            raise InputError("TensorRT-RTX builds ahead of time: name the compute capabilities, such as 8.9")
        for capability in settings.compute_capabilities:
            if compute_capability(library, capability) is None:
                raise UnsupportedError("{} does not build for SM {}".format(library.title, capability))
    if settings.dla_core is not None and settings.precision == "fp32":
        raise UnsupportedError(
            "the DLA computes in fp16 and int8, not in fp32", fix="choose another precision or the GPU"
        )
    if settings.dla_core is not None and settings.dynamic:
        raise UnsupportedError("the DLA takes one batch size only", fix="choose a static batch or the GPU")


def compute_capability(library: Library, capability: str) -> Any:
    """Return TensorRT-RTX's value for a compute capability, "8.9", or None where it does not build for it."""
    return getattr(library.module.ComputeCapability, "SM" + capability.replace(".", ""), None)


def configure(library: Library, parsed: Network, config: Any, settings: BuildSettings) -> Dict[str, Any]:
    """Apply `settings` to `config`; returns them and what was made of them, as identities record it.

    Raises CoopexportError for what this version, this machine or this network cannot do.
    """
    flags = dict(settings.to_json(), strongly_typed=parsed.strongly_typed)
    module = library.module
    # On unless cleared, and it keeps 10 bits of each factor: enough to move symbols.
    if settings.tf32:
        config.set_flag(module.BuilderFlag.TF32)
    else:
        config.clear_flag(module.BuilderFlag.TF32)
    # Kernels and tactics stay readable in the engine; neither its size nor its speed depends on it.
    config.profiling_verbosity = module.ProfilingVerbosity.DETAILED
    flags.update(set_precision(library, parsed, config, settings))
    flags["workspace_limit_bytes"] = _set_workspace(library, config, settings)
    _set_level(library, config, settings)
    _set_dla(library, parsed, config, settings)
    _set_profile(library, parsed, config, settings)
    if library.name == TENSORRT_RTX:
        _set_capabilities(library, config, settings)
    return flags


def _set_workspace(library: Library, config: Any, settings: BuildSettings) -> Any:
    """Limit the memory that kernels may use beside their tensors; returns the limit, None for TensorRT's own."""
    limit = settings.workspace_bytes
    if hasattr(config, "set_memory_pool_limit"):
        if limit is not None:
            config.set_memory_pool_limit(library.module.MemoryPoolType.WORKSPACE, limit)
        return limit
    config.max_workspace_size = _OLD_DEFAULT_WORKSPACE_BYTES if limit is None else limit
    return int(config.max_workspace_size)


def _set_level(library: Library, config: Any, settings: BuildSettings) -> None:
    if settings.optimization_level is None:
        return
    if not hasattr(config, "builder_optimization_level"):
        raise UnsupportedError(
            "{} {} has no optimization level (8.6 is the first)".format(library.title, library.version),
            fix="leave it out",
        )
    config.builder_optimization_level = settings.optimization_level


def _set_dla(library: Library, parsed: Network, config: Any, settings: BuildSettings) -> None:
    if settings.dla_core is None:
        return
    cores = parsed.builder.num_DLA_cores
    if settings.dla_core not in range(cores):
        has = "no DLA" if cores == 0 else "{} DLA cores, counted from 0".format(cores)
        raise UnsupportedError(
            "DLA core {} is asked for; {} {} finds {} here".format(
                settings.dla_core, library.title, library.version, has
            )
        )
    config.default_device_type = library.module.DeviceType.DLA
    config.DLA_core = settings.dla_core
    if settings.gpu_fallback:
        config.set_flag(library.module.BuilderFlag.GPU_FALLBACK)


def _set_profile(library: Library, parsed: Network, config: Any, settings: BuildSettings) -> None:
    """Give the builder the batch sizes of every dynamic input."""
    inputs = parsed.inputs
    if not any(DYNAMIC in tensor.shape for tensor in inputs):
        fixed = sorted({tensor.shape[0] for tensor in inputs if tensor.shape})
        if settings.dynamic or fixed not in ([], [settings.batches[1]]):
            raise InputError(
                "the graph is fixed to batch {}; asked for: {} to {}".format(
                    ", ".join(map(str, fixed)), settings.batches[0], settings.batches[2]
                ),
                fix="give it a dynamic batch",
            )
        return
    profile = parsed.builder.create_optimization_profile()
    for tensor in inputs:
        if DYNAMIC in tensor.shape:
            profile.set_shape(tensor.name, *_profile_shapes(tensor, settings))
    if config.add_optimization_profile(profile) < 0:
        raise UnsupportedError(
            "{} refuses the batch sizes: {}".format(library.title, library.said("it does not say why"))
        )


def _profile_shapes(tensor: TensorInfo, settings: BuildSettings) -> List[Tuple[int, ...]]:
    if tensor.shape[0] != DYNAMIC or DYNAMIC in tensor.shape[1:]:
        raise InputError(
            "input {} has an unknown size behind its batch".format(tensor), fix="export it with fixed ones"
        )
    return [(batch,) + tensor.shape[1:] for batch in settings.batches]


def _set_capabilities(library: Library, config: Any, settings: BuildSettings) -> None:
    config.num_compute_capabilities = len(settings.compute_capabilities)  # must come first, or the next call fails
    for index, capability in enumerate(settings.compute_capabilities):
        if not config.set_compute_capability(compute_capability(library, capability), index):
            raise UnsupportedError("{} does not build for SM {}".format(library.title, capability))
