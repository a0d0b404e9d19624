"""Progress of a build, where TensorRT tells it (10 on)."""

from typing import Any, Callable, Dict, Optional

from jetson.tensorrt_engines.library import Library

# (phase, steps done, steps in all)
OnProgress = Callable[[str, int, int], None]


class Progress:
    """What came of watching: `failure`, the exception that `on_progress` raised, which stopped the build."""

    def __init__(self, on_progress: OnProgress) -> None:
        self.on_progress = on_progress
        self.failure: Optional[BaseException] = None
        self.steps: Dict[str, int] = {}
        self.monitor: Any = None

    def tell(self, phase: str, done: int) -> bool:
        """Pass progress on; False, which asks TensorRT to stop, once that has raised.

        An exception that reached TensorRT's own code would end the process.
        """
        if self.failure is None:
            try:
                self.on_progress(phase, done, self.steps.get(phase, 0))
            except BaseException as error:  # noqa: BLE001  Ctrl-C as well: raised again once TensorRT has returned
                self.failure = error
        return self.failure is None


def watch(library: Library, config: Any, on_progress: OnProgress) -> Progress:
    """Have the builder of `config` tell its progress, if this version can; keep the result while it builds."""
    progress = Progress(on_progress)
    if not hasattr(library.module, "IProgressMonitor"):
        return progress
    base = library.module.IProgressMonitor

    class Monitor(base):  # type: ignore[misc, valid-type]
        """Called from the builder's threads."""

        def __init__(self) -> None:
            base.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: Optional[str], num_steps: int) -> None:
            progress.steps[phase_name] = num_steps
            progress.tell(phase_name, 0)

        def step_complete(self, phase_name: str, step: int) -> bool:
            return progress.tell(phase_name, step + 1)

        def phase_finish(self, phase_name: str) -> None:
            progress.tell(phase_name, progress.steps.get(phase_name, 0))

    progress.monitor = Monitor()
    config.progress_monitor = progress.monitor
    return progress
