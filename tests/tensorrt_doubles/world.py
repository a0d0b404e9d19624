"""What the objects of one double share: its version, the machine it pretends to be on, and its log."""

import weakref

from tensorrt_doubles.host_memory import process_memory


class Segfault(BaseException):
    """Where the real library would read freed memory and end the process."""


class World:
    """One TensorRT in one process. `numbers`: its version; `backend`: "tensorrt" or "tensorrt-rtx".

    `driver`: whether there is one; `compute_capability`: of the GPU that is there; `dla_cores`: how many it has.
    """

    def __init__(self, surface, driver=True, compute_capability="8.7", dla_cores=0):
        self.surface = surface
        self.is_rtx = surface.version.startswith("rtx")
        self.backend = "tensorrt-rtx" if self.is_rtx else "tensorrt"
        self.numbers = tuple(surface.overlay["versions"][surface.version]["numbers"])
        self.driver, self.compute_capability, self.dla_cores = driver, compute_capability, dla_cores
        self.old = not self.is_rtx and self.numbers[0] == 8
        # TensorRT 11 and RTX know nothing but strong typing.
        self.always_typed = self.is_rtx or self.numbers[0] >= 11
        self.deserialised = 0
        self.plugin_namespaces = []
        self._logger = None

    @property
    def memory(self):
        """Return the device memory of this process."""
        return process_memory()

    def use_logger(self, logger, base):
        """Take the process's logger: the first one stays."""
        if not isinstance(logger, base) or not getattr(logger, "_initialised", False):
            raise TypeError("incompatible constructor arguments: an ILogger is needed")
        if self._logger is None:
            self._logger = logger
        elif logger is not self._logger:
            self.log(
                "WARNING",
                "The logger passed into createInferBuilder differs from one already provided for an existing builder, "
                "runtime, or refitter. Uses of the global logger, returned by nvinfer1::getLogger(), will return the "
                "existing value.",
            )

    def log(self, severity, text):
        """Pass a message to the first logger, as "ERROR" or another severity."""
        if self._logger is not None:
            self._logger.log(getattr(type(self._logger).Severity, severity), text)

    def check_driver(self, calls):
        """Raise what pybind11 says when a factory of the C library returns nothing."""
        if not self.driver:
            self.log("ERROR", "CUDA initialization failure with error: 35. Please check your CUDA installation")
            raise TypeError("pybind11::init(): factory function returned nullptr ({})".format(calls))


def borrow(thing):
    """Return a function that gives `thing` as long as somebody else holds it, and then is a Segfault."""
    reference, name = weakref.ref(thing), type(thing).__name__

    def get():
        held = reference()
        if held is None:
            raise Segfault("a {} was used after nobody held it any more".format(name))
        return held

    return get
