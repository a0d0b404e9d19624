"""What a type checker and an IDE see of coopexport is what there is, and a user's script passes `mypy --strict`."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
import sysconfig
import venv
import zipfile
from dataclasses import fields
from pathlib import Path

import pytest

import coopexport
from calibration.building.choose_items import BuildProjectRequest
from calibration.splitting.calibrate_project import CalibrateRequest
from calibration.splitting.search_project import SearchRequest
from calibration.splitting.split_project import SplitRequest
from calibration.variants.prune_project import PruneRequest

PACKAGES = ("coopexport", "benchmarks", "calibration", "engines", "exporter", "jetson")

LIBRARIES = ("torch", "numpy", "onnx", "onnxruntime", "pydantic", "pydantic_core", "matplotlib", "PIL", "safetensors")

SCRIPT = """\
from pathlib import Path

import coopexport

project = coopexport.Project(Path("coopexport.toml"))
cut = project.split(layers=["conv4_1"], bits=4)
for variant in cut.variants:
    for bundle in variant.bundles:
        mean: float = bundle.payload_bytes.mean
        print(variant.variant, bundle.layer, mean)
engines = project.build(targets="cpu")
print([built.target.name for built in engines.targets], project.select(goodput_bps={"3G": 1.1e6}).path)
masks = coopexport.read_masks(Path("masks.safetensors"))
try:
    project.bench(rounds=70)
except coopexport.CoopexportError as error:
    print(error)
"""


def test_the_names_for_type_checkers_are_those_of_the_api() -> None:
    tree = ast.parse(Path(coopexport.__file__).read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    assert ast.unparse(block.test) == "TYPE_CHECKING"
    seen = {
        name.asname or name.name: f"{node.module}:{name.name}"
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for name in node.names
    }
    assert seen == coopexport.API
    assert sorted(coopexport.__all__) == sorted(coopexport.API)
    assert all(getattr(coopexport, name) is not None for name in coopexport.API)


@pytest.mark.parametrize(
    ("method", "request_class"),
    [
        (coopexport.Project.prune, PruneRequest),
        (coopexport.Project.calibrate, CalibrateRequest),
        (coopexport.Project.search, SearchRequest),
        (coopexport.Project.split, SplitRequest),
        (coopexport.Project.build, BuildProjectRequest),
    ],
)
def test_a_method_takes_what_the_request_of_its_verb_has(method: object, request_class: type) -> None:
    assert callable(method)
    taken = {
        name: item.default
        for name, item in inspect.signature(method).parameters.items()
        if name not in ("self", "on_progress")
    }
    assert taken == {item.name: item.default for item in fields(request_class)}


def test_help_shows_a_typed_signature_and_imports_no_torch() -> None:
    program = (
        "import sys, coopexport\n"
        "help(coopexport.Project.split)\n"
        "found = {'torch', 'onnx', 'numpy', 'pydantic', 'click'} & set(sys.modules)\n"
        "assert not found, found\n"
    )
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert "layers: 'Names' = ()" in shown
    assert "-> 'SplitResult'" in shown


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Path:
    """The site-packages of an environment into which the wheel was installed, with all that it requires."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False, symlinks=True)
    (site,) = (folder / "lib").glob("python*/site-packages")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    (site / "required.pth").write_text(sysconfig.get_path("purelib"))
    return site


def test_every_package_is_marked_as_typed(installed: Path) -> None:
    assert all((installed / package / "py.typed").is_file() for package in PACKAGES)


def test_mypy_accepts_a_users_script_and_refuses_a_wrong_one(installed: Path, tmp_path: Path) -> None:
    """In strict mode, with what a user has: the wheel, installed, without other libraries' types: they are slow."""
    (tmp_path / "mypy.ini").write_text(
        f"[mypy]\n[mypy-{','.join(f'{name}.*' for name in LIBRARIES)}]\nfollow_imports = skip\n"
    )
    (tmp_path / "right.py").write_text(SCRIPT)
    (tmp_path / "wrong.py").write_text('import coopexport\n\ncoopexport.Project().split(layers=4, bits="four")\n')
    python = installed.parents[2] / "bin" / "python"
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--python-executable", str(python), "--config-file", "mypy.ini",
         "--cache-dir", str(tmp_path / "cache"), "right.py", "wrong.py"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    problems = [line for line in done.stdout.splitlines() if ": error:" in line]
    assert len(problems) == 2, done.stdout
    assert all(line.startswith("wrong.py:3: error:") for line in problems), done.stdout
