"""Build requests of real bundles, and results that are installed only where everything about them is right."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from fake_jetson.boards import NANO_4_6_1, ORIN_NANO_6_2
from fake_jetson.device import FakeDevice, make_device
from fake_jetson.small_request import SAMPLES, small_request
from tests_support import files_below, unshare_command

from engines.building.build_items import item_of_whole, items_of_layer
from engines.building.prepared_file import prepare
from engines.device_builds.agent_file import AgentRequest, write_agent
from engines.device_builds.requests import PendingEngine, install_result, pending_engine, write_request
from engines.targets.lookup import find_target
from engines.targets.target import Target
from jetson.engines.build_settings import BuildSettings
from jetson.engines.identity import read_identity
from jetson.errors import CoopexportError
from jetson.requests.archive import BLOBS_FOLDER

BATCH = BuildSettings(batches=(SAMPLES, SAMPLES, SAMPLES))


def build_there(
    device: FakeDevice, folder: Path, target: Target, pending: list[PendingEngine], name: str = "result.zip"
) -> Path:
    """Build a build request on a device by hand, with two files."""
    write_agent(AgentRequest(folder / "coop-agent.pyz"))
    write_request(folder / "order.zip", target, pending)
    ended = device.agent(folder / "coop-agent.pyz", "build", folder / "order.zip", "--output", folder / name)
    assert ended.returncode == 0, ended.stderr
    return folder / name


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the result (a manifest with its files beside it) of the small network's head."""
    folder = tmp_path_factory.mktemp("built")
    target = find_target("orin-nano")
    device = make_device(ORIN_NANO_6_2, folder / "device")
    build_there(device, folder, target, small_request(folder / "out", target, 8, BATCH)[:1], "result.json")
    return folder


@pytest.mark.parametrize(("board", "name"), [(NANO_4_6_1, "nano"), (ORIN_NANO_6_2, "orin-nano")])
def test_a_bundle_goes_to_the_device_and_comes_back(
    board: object, name: str, tmp_path: Path, split_project: Path
) -> None:
    """The demo's own network: its golden data agree on TensorRT 8.2, in another form of symbols, and on 10.3."""
    ignored = shutil.ignore_patterns("engines")
    bundles = Path(shutil.copytree(split_project / "out/pruned", tmp_path / "pruned", ignore=ignored))
    target = find_target(name)
    items = [*items_of_layer(bundles, "conv4_1"), item_of_whole(bundles)]
    count = 16
    settings = BuildSettings(batches=(count, count, count))
    pending = [pending_engine(prepare(item, target, settings)) for item in items]
    device = make_device(board, tmp_path / "device")  # type: ignore[arg-type]
    result = build_there(device, tmp_path, target, pending)
    installed = install_result(result, target, pending)
    for item, one in zip(items, installed, strict=True):
        assert one.path == item.engine_path(target, settings.batches)
        identity = read_identity(str(one.path))
        assert identity == one.identity
        assert (identity.source_sha256, identity.golden_sha256) == (item.graph.sha256, item.golden.sha256)
        assert identity.parity is not None
        assert {check["samples"] for check in identity.parity} == {count}
        assert all(0 <= check["error"] <= check["bound"] for check in identity.parity)
    sent = {end["dtype"] for end in installed[0].identity.outputs}  # type: ignore[union-attr]
    assert sent == ({"int32"} if name == "nano" else {"uint8"})


def small(built: Path, tmp_path: Path) -> tuple[Path, Target, list[PendingEngine]]:
    """Return a copy of the result, its target, and the build request that it is of, to be installed in `tmp_path`."""
    copy = tmp_path / "copy"
    copy.mkdir()
    shutil.copy(built / "result.json", copy)
    shutil.copytree(built / BLOBS_FOLDER, copy / BLOBS_FOLDER)
    target = find_target("orin-nano")
    return copy / "result.json", target, small_request(tmp_path / "out", target, 8, BATCH)[:1]


def test_placing_twice_is_as_placing_once(built: Path, tmp_path: Path) -> None:
    result, target, pending = small(built, tmp_path)
    first = install_result(result, target, pending)
    assert install_result(result, target, pending) == first
    assert files_below(tmp_path / "out") == {
        "engines/orin-nano@6.2/conv1.head.batch6.engine", "engines/orin-nano@6.2/conv1.head.batch6.engine.json"
    }  # fmt: skip


def another_source(pending: PendingEngine) -> PendingEngine:
    return replace(pending, item=pending.item._replace(source_sha256="0" * 64))


def another_file(pending: PendingEngine) -> PendingEngine:
    return replace(pending, item=pending.item._replace(graph_sha256="0" * 64))


def another_role(pending: PendingEngine) -> PendingEngine:
    return replace(pending, item=pending.item._replace(role="tail"))


def another_batch(pending: PendingEngine) -> PendingEngine:
    return replace(pending, item=pending.item._replace(settings=BuildSettings(batches=(1, 1, 1))))


def another_level(pending: PendingEngine) -> PendingEngine:
    settings = pending.item.settings._replace(optimization_level=5)
    return replace(pending, item=pending.item._replace(settings=settings))


def other_golden_data(pending: PendingEngine) -> PendingEngine:
    return replace(pending, item=pending.item._replace(golden_sha256="0" * 64))


def another_name(pending: PendingEngine) -> PendingEngine:
    return replace(pending, item=pending.item._replace(name="small/conv2.head"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (another_source, "was built from another or older head of conv1"),
        (another_file, "was built from another file for orin-nano@6.2"),
        (another_role, "is another one: needed is role tail, its identity says head"),
        (another_batch, "takes batches of 6, needed is 1"),
        (
            another_level,
            r"small/conv1\.head\.batch6 was built with other settings than are asked for now; order it again",
        ),
        (other_golden_data, "was checked with other golden data than there are now; order it again"),
        (another_name, r"says nothing about small/conv2\.head: it is of another order"),
    ],
)
def test_what_was_not_ordered_is_not_placed(
    built: Path, tmp_path: Path, change: Callable[[PendingEngine], PendingEngine], said: str
) -> None:
    result, target, pending = small(built, tmp_path)
    with pytest.raises(CoopexportError, match=said):
        install_result(result, target, [change(pending[0])])
    assert files_below(tmp_path / "out") == set()


@pytest.mark.parametrize("field", ["engine_sha256", "identity_sha256"])
@pytest.mark.parametrize("position", [0, 30, 200, -1])
def test_a_damaged_result_is_not_placed(built: Path, tmp_path: Path, field: str, position: int) -> None:
    result, target, pending = small(built, tmp_path)
    sha256 = json.loads(result.read_text())["items"][0][field]
    blob = result.parent / BLOBS_FOLDER / sha256
    data = bytearray(blob.read_bytes())
    data[position] ^= 4
    blob.write_bytes(data)
    with pytest.raises(CoopexportError, match=r"result\.json is damaged: .*is not what its name says"):
        install_result(result, target, pending)
    assert files_below(tmp_path / "out") == set()


def test_a_result_of_another_machine_than_it_says_is_not_placed(built: Path, tmp_path: Path) -> None:
    result, target, pending = small(built, tmp_path)
    content = json.loads(result.read_text())
    content["probe"]["machine"]["backends"] = {"tensorrt": "10.16.2.10"}
    result.write_text(json.dumps(content))
    with pytest.raises(CoopexportError, match=r"TensorRT 10\.16\.2\.10 here, engine built by 10\.3\.0\.30"):
        install_result(result, target, pending)
    content["probe"] = {}
    result.write_text(json.dumps(content))
    with pytest.raises(CoopexportError, match="does not say of which machine"):
        install_result(result, target, pending)


@pytest.mark.system
def test_a_full_disk_on_the_device_is_said_and_leaves_nothing(tmp_path: Path) -> None:
    unshare = unshare_command()
    if unshare is None:
        pytest.skip("left out: needs its own mounts; run as root, or allow unprivileged user namespaces")
    target = find_target("orin-nano")
    device = make_device(ORIN_NANO_6_2, tmp_path / "device")
    write_agent(AgentRequest(tmp_path / "coop-agent.pyz"))
    write_request(tmp_path / "order.zip", target, small_request(tmp_path / "out", target, 8, BATCH)[:1])
    place = tmp_path / "small disk"
    place.mkdir()
    agent = shlex.join([*map(str, ("python3", tmp_path / "coop-agent.pyz", "build", tmp_path / "order.zip"))])
    where = shlex.quote(str(place))
    script = (
        f"mount -t tmpfs -o size=8k none {where} && {{ {agent} --output {where}/result.zip; echo code $?; "
        f"ls -A {where}; }}"
    )
    ended = subprocess.run(
        [*unshare, script], capture_output=True, text=True, timeout=60, check=False, env=device.environment
    )
    assert ended.stdout.splitlines() == ["code 2"], ended.stderr
    assert "No space left on device" in ended.stderr.splitlines()[-1]
    # The engine itself is kept, and is there when there is room.
    assert build_there(device, tmp_path, target, small_request(tmp_path / "out", target, 8, BATCH)[:1]).is_file()
    assert install_result(tmp_path / "result.zip", target, small_request(tmp_path / "out", target, 8, BATCH)[:1])[
        0
    ].reused
