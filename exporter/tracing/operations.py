"""What kind of operation a node of a traced network is, as far as channels are concerned."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import fx, nn
from torch.nn import functional
from torch.nn.utils import parametrize

Kind = Literal[
    "convolution",  # makes channels of its own out of all that it reads (in its group), as transposed ones do
    "linear",  # the same in the last dimension
    "batch_norm",  # channel by channel in eval mode, with parameters for each
    "instance_norm",  # channel by channel, with the statistics of the input
    "group_norm",  # all channels of a group together
    "prelu",  # an activation with a slope for each channel
    "activation",  # element by element
    "identity",  # nothing, in eval mode
    "pool",  # over positions, and of a constant makes the same; these four keep channels apart
    "average_pool",  # over positions, where padding may be counted in
    "resample",
    "reduce",  # over whole dimensions
    "pad",
    "arithmetic",  # two tensors, element by element
    "concatenate",
    "movement",  # elements change places, none changes its value
    "opaque",  # anything else: all channels that it reads have to stay
]

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED_CONVOLUTIONS = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
LAYERS = (*CONVOLUTIONS, *TRANSPOSED_CONVOLUTIONS, nn.Linear)

_MODULES: tuple[tuple[Kind, tuple[type[nn.Module], ...]], ...] = (
    ("convolution", (*CONVOLUTIONS, *TRANSPOSED_CONVOLUTIONS)),
    ("linear", (nn.Linear,)),
    ("batch_norm", (*BATCH_NORMS, nn.SyncBatchNorm)),
    ("instance_norm", (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)),
    ("group_norm", (nn.GroupNorm,)),
    ("prelu", (nn.PReLU,)),
    (
        "activation",
        (
            nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.SiLU, nn.Hardswish, nn.GELU, nn.Sigmoid, nn.Tanh, nn.ELU, nn.CELU,
            nn.SELU, nn.Hardsigmoid, nn.Hardtanh, nn.Softplus, nn.Mish, nn.LogSigmoid, nn.Softsign, nn.Tanhshrink,
            nn.Hardshrink, nn.Softshrink, nn.Threshold,
        ),
    ),
    (
        "identity",
        (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout),
    ),
    (
        "pool",
        (
            nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d,
            nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d,
        ),
    ),
    ("average_pool", (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)),
    ("resample", (nn.Upsample, nn.UpsamplingNearest2d, nn.UpsamplingBilinear2d)),
    ("pad", (nn.ZeroPad1d, nn.ZeroPad2d, nn.ZeroPad3d, nn.ConstantPad1d, nn.ConstantPad2d, nn.ConstantPad3d,
             nn.ReflectionPad1d, nn.ReflectionPad2d, nn.ReplicationPad1d, nn.ReplicationPad2d)),
    ("movement", (nn.Flatten, nn.Unflatten, nn.PixelShuffle, nn.PixelUnshuffle, nn.ChannelShuffle)),
)  # fmt: skip

_FUNCTIONS: tuple[tuple[Kind, tuple[Callable[..., Any], ...]], ...] = (
    (
        "activation",
        (
            torch.relu, functional.relu, functional.relu6, functional.leaky_relu, functional.silu,
            functional.hardswish, functional.gelu, torch.sigmoid, functional.sigmoid, torch.tanh, functional.tanh,
            functional.elu, functional.celu, functional.selu, functional.hardsigmoid, functional.hardtanh,
            functional.softplus, functional.mish, functional.logsigmoid, functional.softsign, torch.exp, torch.abs,
            torch.neg, torch.sqrt, torch.rsqrt, torch.square, torch.clamp, torch.clip, torch.erf, torch.log,
            torch.reciprocal, torch.sin, torch.cos, torch.log1p, torch.expm1, operator.neg, operator.abs,
            torch.relu_, torch.sigmoid_, torch.tanh_, torch.selu_, torch.celu_, torch.threshold_, functional.relu_,
            functional.leaky_relu_, functional.elu_, functional.selu_, functional.celu_, functional.hardtanh_,
            functional.hardshrink, functional.softshrink, functional.tanhshrink, functional.threshold,
        ),
    ),
    (
        "identity",
        (functional.dropout, functional.dropout1d, functional.dropout2d, functional.dropout3d,
         functional.alpha_dropout, torch.clone, torch.detach),
    ),
    (
        "pool",
        (functional.max_pool1d, functional.max_pool2d, functional.max_pool3d, functional.adaptive_max_pool1d,
         functional.adaptive_max_pool2d, functional.adaptive_avg_pool1d, functional.adaptive_avg_pool2d,
         functional.adaptive_avg_pool3d),
    ),
    ("average_pool", (functional.avg_pool1d, functional.avg_pool2d, functional.avg_pool3d)),
    ("resample", (functional.interpolate, functional.upsample)),
    ("reduce", (torch.mean, torch.sum, torch.amax, torch.amin)),
    ("pad", (functional.pad,)),
    (
        "arithmetic",
        (operator.add, operator.sub, operator.mul, operator.truediv, operator.iadd, operator.isub, operator.imul,
         operator.itruediv, operator.pow, torch.add, torch.sub, torch.mul, torch.div, torch.pow, torch.maximum,
         torch.minimum),
    ),
    ("concatenate", (torch.cat, torch.concat, torch.concatenate, torch.stack)),
    (
        "movement",
        (torch.flatten, torch.reshape, torch.permute, torch.transpose, torch.squeeze, torch.unsqueeze, torch.chunk,
         torch.split, torch.tensor_split, torch.unbind, torch.narrow, torch.flip, torch.swapaxes, torch.movedim,
         torch.unflatten, torch.roll, operator.getitem, functional.pixel_shuffle, functional.pixel_unshuffle,
         functional.channel_shuffle),
    ),
)  # fmt: skip

_METHOD_NAMES: dict[Kind, str] = {
    "activation": "relu relu_ sigmoid sigmoid_ tanh tanh_ exp abs neg sqrt rsqrt square clamp clamp_ clip clip_ "
    "hardtanh erf log reciprocal sin cos log1p expm1",
    "identity": "contiguous clone detach float",
    "reduce": "mean sum amax amin",
    "arithmetic": "add add_ sub sub_ mul mul_ div div_ pow maximum minimum",
    "movement": "flatten view reshape permute transpose squeeze unsqueeze chunk split tensor_split unbind narrow flip "
    "swapaxes movedim unflatten roll t",
}
_METHODS: dict[str, Kind] = {name: kind for kind, names in _METHOD_NAMES.items() for name in names.split()}
_FUNCTION_KINDS: dict[Any, Kind] = {function: kind for kind, functions in _FUNCTIONS for function in functions}

# These take no values from the tensor that they are given, only its type, place and maybe size.
_NEW_METHODS = frozenset(("new_zeros", "new_ones", "new_full", "new_empty", "new_tensor"))
_NEW_FUNCTIONS = frozenset((torch.zeros_like, torch.ones_like, torch.full_like, torch.empty_like))

# Functions whose names do not end in an underscore and that write into their first operand all the same.
_WRITING = frozenset({operator.iadd, operator.isub, operator.imul, operator.itruediv})


def module_kind(module: nn.Module, *, with_hooks: bool = False) -> Kind:
    """Return the kind of a module; a subclass is what its base is as long as it computes the same forward.

    `with_hooks`: also of one whose outputs or parameters are made anew in every forward, by hooks or parametrisations.
    """
    hooked = module._forward_hooks or module._forward_pre_hooks or parametrize.is_parametrized(module)
    if hooked and not with_hooks:
        return "opaque"
    for kind, types in _MODULES:
        for base in types:
            if isinstance(module, base) and type(module).forward is base.forward and not _overrides(module, base):
                return kind
    return "opaque"


def is_batch_norm(module: nn.Module) -> bool:
    """Tell whether a module is a batch norm, be it with a forward of its own, which may contain the activation.

    timm's BatchNormAct2d is such a one. What contains a convolution or linear as well is more than a batch norm.
    """
    inside = any(isinstance(item, LAYERS) for item in module.modules())
    return isinstance(module, nn.modules.batchnorm._BatchNorm) and not inside


def _overrides(module: nn.Module, base: type[nn.Module]) -> bool:
    """Tell whether a convolution's inner method, which holds its whole computation, is another one."""
    inner = "_conv_forward"
    return getattr(type(module), inner, None) is not getattr(base, inner, None)


def kind_of(node: fx.Node, module: nn.Module | None) -> Kind:
    """Return the kind of a node that reads at least one tensor; `module` is the one that it calls, if it does."""
    if module is not None:
        return module_kind(module)
    if node.op == "call_method":
        return _METHODS.get(str(node.target), "opaque")
    return _FUNCTION_KINDS.get(node.target, "opaque")


def call(node: fx.Node, module: nn.Module | None, arguments: Sequence[Any], options: Mapping[str, Any]) -> Any:
    """Run the operation of `node` on other arguments than its own."""
    if module is not None:
        return module(*arguments, **options)
    if node.op == "call_method":
        return getattr(arguments[0], str(node.target))(*arguments[1:], **options)
    assert callable(node.target)
    return node.target(*arguments, **options)


def asks_for_form_only(node: fx.Node) -> bool:
    """Tell whether `node` makes a tensor that is only like the one that it reads, with values of its own."""
    return node.target in _NEW_FUNCTIONS or (node.op == "call_method" and node.target in _NEW_METHODS)


def writes_into_its_input(node: fx.Node, module: nn.Module | None) -> bool:
    """Tell whether `node` changes its first operand in place, which later readers of that operand see."""
    if kind_of(node, module) == "identity":
        return False
    if module is not None and is_batch_norm(module):
        return False  # `inplace` is said of an activation in it
    if getattr(module, "inplace", False) is True or node.kwargs.get("inplace") is True:
        return True
    name = str(node.target) if node.op == "call_method" else getattr(node.target, "__name__", "")
    if getattr(node.target, "__module__", "") == "_operator" and node.target not in _WRITING:
        return False  # and_, or_ and not_ are named so to be no keywords
    return node.op != "call_module" and (node.target in _WRITING or name.rstrip("_") != name)
