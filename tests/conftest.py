"""Fixtures that several rooms share: one small project, trained once for all test processes."""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import io
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock
from hypothesis import HealthCheck, settings
from safetensors.torch import load_file, save_file
from sklearn.datasets import load_digits
from torch import nn

from benchmarks.demo.data import DemoData
from benchmarks.demo.prepare import Recipe, prepare_project
from coopexport import command_line
from exporter.masks.masked_network import masked_network
from exporter.masks.masks import Masks, write_masks
from exporter.models.vgg import vgg16
from exporter.project.settings import load_project
from exporter.training.fit import fit
from exporter.training.training_set import load_training_set

# Engines that tests build stay away from the user's own store, and from other tests' runs.
os.environ["COOPEXPORT_STORE"] = tempfile.mkdtemp(prefix="coopexport-store-")
atexit.register(shutil.rmtree, os.environ["COOPEXPORT_STORE"], ignore_errors=True)

# Tests run in parallel on few cores: more threads only make them wait for each other.
torch.set_num_threads(1)
settings.register_profile("default", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("default")

TINY_RECIPE = Recipe(
    widths=(4, 4, 8, 8, 12, 12, 12, 12, 12, 12, 12, 12, 12),
    strides=(),
    image_pixels=32,
    measures_memory=True,
    batch_images=32,
    epochs=5,
    peak_learning_rate=0.01,
    macs_reduction=2.0,
    rounds=2,
    round_epochs=1,
    final_epochs=1,
    score_images=200,
    step_two_layers=("conv4_1",),
    step_two_widths=2,
    bottleneck_trainings=2,
    bottleneck_bits=4,
    bottleneck_first_epochs=2,
    bottleneck_epochs=1,
    bottleneck_loss_points=20.0,  # of a network that is hardly trained
)
REPOSITORY = Path(__file__).resolve().parent.parent


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what needs a GPU, unless it is asked for by name."""
    if "gpu" in config.getoption("markexpr"):
        return
    left_out = [item for item in items if item.get_closest_marker("gpu") is not None]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


def pytest_sessionstart(session: pytest.Session) -> None:
    """Collect no garbage while libraries and thousands of tests are loaded: next to none of it is garbage."""
    gc.disable()


def pytest_collection_finish(session: pytest.Session) -> None:
    """Collect garbage from now on, and leave out what is there for good: it is much to walk over."""
    gc.enable()
    gc.collect()
    gc.freeze()


@dataclass(frozen=True)
class CommandResult:
    """What a command printed and how it ended."""

    code: int
    output: str
    errors: str

    @property
    def error_lines(self) -> list[str]:
        return [line for line in self.errors.splitlines() if line.strip()]


def plain_digits() -> DemoData:
    """Return scikit-learn's digits at 32x32 without photographs: learnt in seconds by a network this small."""
    digits = load_digits()
    enlarged = np.repeat(np.repeat(digits.images, 4, axis=1), 4, axis=2) * 15.9
    images = np.stack([enlarged] * 3, axis=-1).astype(np.uint8)
    labels = digits.target.astype(np.int64)
    return DemoData(images[:1500], labels[:1500], images[:128], labels[:128], images[1500:1700], labels[1500:1700])


def add_masks(folder: Path) -> None:
    """Mask 40 % of the filters of every layer by their L1 norm, train what is left, and name both in the project."""
    project = load_project(folder / "coopexport.toml")
    network = vgg16(TINY_RECIPE.widths)
    network.load_state_dict(load_file(folder / "network.safetensors"))
    keep = {}
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            norms = module.weight.detach().double().abs().sum(dim=(1, 2, 3))
            kept = norms.argsort(descending=True, stable=True)[: round(0.6 * len(norms))]
            keep[name] = np.isin(np.arange(len(norms)), kept.numpy())
    masks = Masks(keep, "channel", "L1 filter norm, 60 % kept in every layer")
    data = load_training_set(project)
    masked = masked_network(network, masks, torch.from_numpy(data.inputs(np.arange(8))))
    settings = project.settings.training.model_copy(update={"learning_rate": 0.005})
    fit(masked, data, settings, epochs=2, seed=1)
    save_file(network.state_dict(), folder / "pruned.safetensors")
    write_masks(folder / "masks.safetensors", masks)
    text = (folder / "coopexport.toml").read_text()
    for key in ("masks", "pruned_checkpoint"):
        text = re.sub(rf"^# {key} = .*$", f'{key} = "{key.removesuffix("_checkpoint")}.safetensors"', text, flags=re.M)
    (folder / "coopexport.toml").write_text(text)


def _shared(tmp_path_factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """Return a folder that one of the test processes fills for all of them."""
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent
    folder = root / name
    with FileLock(str(folder) + ".lock"):
        if not (folder / ".complete").exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            make(folder)
            (folder / ".complete").touch()
    return folder


@pytest.fixture(scope="session")
def fresh_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained and masked network with its project file and data; no command has run. Do not write into it."""

    def make(folder: Path) -> None:
        prepare_project(folder, TINY_RECIPE, plain_digits())
        add_masks(folder)

    return _shared(tmp_path_factory, "fresh-project", make)


@pytest.fixture(scope="session")
def split_project(tmp_path_factory: pytest.TempPathFactory, fresh_project: Path) -> Path:
    """The same after shrink, split at conv4_1 and pool3, build, bench and select. Do not write into it."""

    def make(folder: Path) -> None:
        shutil.copytree(fresh_project, folder, dirs_exist_ok=True)
        for arguments in (
            ["shrink"],
            ["split", "--layer", "conv4_1", "--layer", "pool3"],
            ["build", "--target", "cpu"],
            ["bench", "--rounds", "70", "--warm-up", "2"],
            ["select"],
        ):
            result = run_coopexport(folder, *arguments)
            assert result.code == 0, result.errors

    return _shared(tmp_path_factory, "split-project", make)


@pytest.fixture(scope="session")
def converted_project(tmp_path_factory: pytest.TempPathFactory, split_project: Path) -> Path:
    """The same with conv4_1 of the pruned variant, and all of it, in float16 and int8. Do not write into it."""

    def make(folder: Path) -> None:
        shutil.copytree(split_project, folder, dirs_exist_ok=True)
        chosen = ("--variant", "pruned", "--layer", "conv4_1", "--whole", "--maximum-loss", "100")
        result = run_coopexport(folder, "precision", *chosen)
        assert result.code == 0, result.errors

    return _shared(tmp_path_factory, "converted-project", make)


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout."""

    def make(folder: Path) -> None:
        subprocess.run(
            [sys.executable, "-m", "build", "--wheel", "--outdir", str(folder), str(REPOSITORY)],
            check=True, capture_output=True,
        )  # fmt: skip

    (found,) = _shared(tmp_path_factory, "wheel", make).glob("*.whl")
    return found


@pytest.fixture
def project(tmp_path: Path, fresh_project: Path) -> Path:
    """A copy of the fresh project to write into."""
    return Path(shutil.copytree(fresh_project, tmp_path / "project"))


@pytest.fixture
def finished_project(tmp_path: Path, split_project: Path) -> Path:
    """A copy of the split project to write into."""
    return Path(shutil.copytree(split_project, tmp_path / "finished"))


def run_coopexport(folder: Path, *arguments: str, environment: dict[str, str] | None = None) -> CommandResult:
    """Run the command line in `folder` as a user would, but in this process: it starts in no time.

    What a process of its own would forget is put back: the working directory, the environment, and the modules that
    the project's own code brought.
    """
    variables = {"OMP_NUM_THREADS": "1", "COLUMNS": "160", **(environment or {})}
    output, errors = io.StringIO(), io.StringIO()
    known, paths, before, threads = set(sys.modules), list(sys.path), Path.cwd(), torch.get_num_threads()
    interrupt, writes = signal.getsignal(signal.SIGINT), sys.dont_write_bytecode
    sys.dont_write_bytecode = True  # by the second and the size, an edited file may look like the one before
    importlib.invalidate_caches()
    code = 0
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        patch.setattr(sys, "argv", ["coopexport", *arguments])
        os.chdir(folder)
        try:
            with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
                command_line.run()
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else int(bool(ended.code))
        except Exception:
            errors.write(traceback.format_exc())
            code = 1
        finally:
            os.chdir(before)
            sys.path[:] = paths
            for name in set(sys.modules) - known:
                if _is_of_a_project(sys.modules[name]):
                    del sys.modules[name]
            signal.signal(signal.SIGINT, interrupt)
            sys.dont_write_bytecode = writes
            torch.set_num_threads(threads)
    return CommandResult(code, output.getvalue(), errors.getvalue())


def _is_of_a_project(module: object) -> bool:
    """Tell whether a module lies in a folder that a test has made; checkout and environment may lie beside those."""
    file = getattr(module, "__file__", None)
    if file is None or not Path(file).is_relative_to(tempfile.gettempdir()):
        return False
    return not any(Path(file).is_relative_to(folder) for folder in (REPOSITORY, sys.prefix, sys.base_prefix))


@pytest.fixture(scope="session")
def coopexport() -> Callable[..., CommandResult]:
    """The command line, as a function of working directory and arguments."""
    return run_coopexport


@pytest.fixture(scope="session")
def settled_vgg() -> nn.Module:
    """A small VGG-16 with drawn batch norms whose running statistics fit, in eval mode.

    With random statistics the outputs of a deep network hardly depend on its input, and a wrong shrinker would pass.
    """
    generator = torch.Generator().manual_seed(7)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        network = vgg16((8, 8, 12, 12, 16, 16, 16, 16, 16, 16, 16, 16, 16))
    return settle(network, generator, (3, 32, 32))


def settle(network: nn.Module, generator: torch.Generator, input_shape: tuple[int, ...]) -> nn.Module:
    """Draw gamma and beta of every batch norm and let the running statistics follow random data."""
    for module in network.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            module.weight.data = 0.5 + torch.rand(module.weight.shape, generator=generator)
            module.bias.data = torch.rand(module.bias.shape, generator=generator) - 0.5
            module.reset_running_stats()
            module.momentum = None  # a plain mean: with 0.1 an eighth of the initial variance would be left
    network.train()
    with torch.no_grad():
        for _ in range(20):
            network(torch.randn((16, *input_shape), generator=generator))
    return network.eval()


@pytest.fixture(scope="session")
def random_images() -> np.ndarray:
    """24 random inputs for the VGG-16, 24 x 3 x 32 x 32, float32."""
    return np.random.default_rng(3).standard_normal((24, 3, 32, 32), dtype=np.float32)
