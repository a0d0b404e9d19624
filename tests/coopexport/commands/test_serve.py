"""`coopexport serve` and the agent's `run`: the pair at work over a socket gives what the bundle says."""

from __future__ import annotations

import io
import json
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engines.building.build_items import item_of_whole
from engines.building.open_engine import open_engine
from engines.building.pair import network_input, open_pair
from engines.serving.serve import Listening, ServeRequest, serve_plan
from engines.targets.lookup import find_target
from exporter.bundles.bundle import read_golden, read_whole
from jetson.client.run_command import RunOptions, run
from jetson.errors import CoopexportError
from jetson.runtime.partition_policy import read_partition_policy

SETTINGS = {"jpeg": {"optimize": True, "subsampling": 2}, "webp": {"method": 6}}


class Serving:
    """A server in a thread of this process."""

    def __init__(self, plan: Path):
        self.stop, self.listening, self.failed = threading.Event(), [], []
        self.results, self.heard = [], threading.Semaphore(0)
        request = ServeRequest(plan, find_target("cpu"), port=0)
        self.thread = threading.Thread(
            target=lambda: self.results.append(
                serve_plan(request, self.stop, self._listening, on_reload_failed=self._failed)
            )
        )
        self.thread.start()
        assert self.heard.acquire(timeout=30)

    def _listening(self, listening: Listening):
        self.listening.append(listening)
        self.heard.release()

    def _failed(self, why: str):
        self.failed.append(why)
        self.heard.release()

    @property
    def address(self) -> str:
        return f"{self.listening[-1].host}:{self.listening[-1].port}"

    def end(self):
        self.stop.set()
        self.thread.join(20)


@pytest.fixture
def serving(finished_project: Path) -> Iterator[Serving]:
    found = Serving(finished_project / "out" / "plan.json")
    yield found
    found.end()
    assert found.results[0].drained


def frames_of(project: Path, variant: str = "original") -> tuple[Path, np.ndarray]:
    """Write the golden images where a device takes frames from."""
    folder = project / "out" / variant
    images = read_golden(folder, read_whole(folder).golden)["images"]
    np.save(project / "frames.npy", images)
    return project / "frames.npy", images


def ran(capsys: pytest.CaptureFixture[str], options: RunOptions) -> tuple[list[dict], str]:
    capsys.readouterr()
    code = run(options, as_json=True)
    output, errors = capsys.readouterr()
    assert code == 0, errors
    return [json.loads(line) for line in output.splitlines()], errors


def check_uploaded(folder: Path, coding: str, results: list[dict], images: np.ndarray) -> None:
    """Compare with the whole network on what Pillow alone makes of the images."""
    name, _, quality = coding.partition(" q")
    network = open_engine(item_of_whole(folder), find_target("cpu"))
    declaration = read_whole(folder).declared_preprocessing()
    for result, image in zip(results, images, strict=True):
        arrived = image
        if name != "raw":
            buffer = io.BytesIO()
            Image.fromarray(image).save(buffer, format=name, quality=int(quality), **SETTINGS[name])
            arrived = np.asarray(Image.open(buffer).convert("RGB"))
            assert result["sent_bytes"] == len(buffer.getvalue()) + 4 + 14
        (outputs,) = network([network_input(declaration, arrived)])
        np.testing.assert_allclose(result["outputs"][0], outputs, rtol=1e-5, atol=1e-5)


def test_every_way_of_the_plan_gives_what_its_pair_gives_in_one_process(
    serving: Serving, finished_project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = finished_project / "out" / "plan.json"
    frames, images = frames_of(finished_project)
    policy = read_partition_policy(str(plan))
    chosen = sorted({number for envelope in policy.envelopes for number in envelope.candidates})
    cpu, crossed = find_target("cpu"), 0
    for number in chosen:
        candidate = policy.candidates[number]
        options = RunOptions(str(plan), str(frames), "cpu", serving.address, way=number, name="jetson-7")
        results, errors = ran(capsys, options)
        assert [result["number"] for result in results] == list(range(len(images))), errors
        assert {result["way"] for result in results} == {number}, errors
        crossed += candidate["layer"] != "output"
        if candidate["layer"] == "output":
            continue
        if candidate["layer"] == "input":
            check_uploaded(plan.parent / candidate["variant"], candidate["coding"], results, images)
            continue
        pair = open_pair(plan.parent / candidate["variant"], candidate["layer"], cpu, cpu)
        for result, image in zip(results, images, strict=True):
            outputs, sent_bytes = pair.infer(image)
            np.testing.assert_allclose(result["outputs"][0], outputs, rtol=1e-5, atol=1e-5)
            assert result["sent_bytes"] == sent_bytes + 14
    assert crossed, "no way of this plan crosses the link, so that this test says nothing"


def test_the_plan_is_followed_and_the_summary_says_what_was_done(
    serving: Serving, finished_project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frames, images = frames_of(finished_project)
    plan = str(finished_project / "out" / "plan.json")
    results, errors = ran(capsys, RunOptions(plan, str(frames), "cpu", serving.address, deadline_ms=1000.0))
    assert len(results) == len(images)
    assert f"{len(images)} frames in" in errors
    assert re.search(r"[\d,]+ bytes sent", errors)


def test_a_plan_that_changes_is_served_from_then_on_and_a_broken_one_is_not(
    serving: Serving, finished_project: Path
) -> None:
    plan = finished_project / "out" / "plan.json"
    content = plan.read_text()
    broken, newer = plan.with_name("broken"), plan.with_name("newer")
    broken.write_text("{")
    broken.replace(plan)
    assert serving.heard.acquire(timeout=30)
    assert "plan.json" in serving.failed[0]
    newer.write_text(content + "\n")
    newer.replace(plan)
    assert serving.heard.acquire(timeout=30)
    releases = [listening.release for listening in serving.listening]
    assert len(set(releases)) == 2


def test_an_engine_that_is_not_built_is_named(finished_project: Path) -> None:
    plan = finished_project / "out" / "plan.json"
    policy = read_partition_policy(str(plan))
    crossing = [
        policy.candidates[number]
        for number in {number for envelope in policy.envelopes for number in envelope.candidates}
        if policy.candidates[number]["layer"] != "output"
    ]
    for folder in {plan.parent / candidate["variant"] / "engines" for candidate in crossing}:
        shutil.rmtree(folder)
    with pytest.raises(CoopexportError, match="coopexport build"):
        serve_plan(ServeRequest(plan, find_target("cpu"), port=0), threading.Event(), lambda _: None)


def test_a_bundle_that_is_missing_costs_its_own_pair_only(
    finished_project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = finished_project / "out" / "plan.json"
    content = json.loads(plan.read_text())
    splits = [one for one in content["candidates"] if one["layer"] not in ("input", "output") and not one.get("reason")]
    gone = dict(splits[0], variant="gone", files={"head": "gone/x.head.onnx", "tail": "gone/x.tail.onnx"})
    content["candidates"] += [gone]
    first = content["intervals"][0]["candidate"]
    content["intervals"][0]["candidate"] = content["envelopes"][0]["intervals"][0]["candidate"] = (
        len(content["candidates"]) - 1
    )
    content["intervals"][-1]["candidate"] = content["envelopes"][0]["intervals"][-1]["candidate"] = (
        content["candidates"].index(splits[0]) if len(content["intervals"]) > 1 else first
    )
    plan.write_text(json.dumps(content))
    if len(content["intervals"]) == 1:
        pytest.skip("this plan chooses one candidate everywhere")
    serving = Serving(plan)
    serving.end()
    assert any("gone" in pair for pair in serving.listening[0].refused)
    assert serving.listening[0].pairs


def test_the_command_listens_on_loopback_and_ends_on_a_signal(finished_project: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "coopexport", "serve", "--port", "0"],
        cwd=finished_project, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    first = process.stdout.readline()
    assert re.match(r"serving release [0-9a-f]{16} on 127\.0\.0\.1:\d+, not encrypted:", first)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 0, output
    assert output.splitlines()[-1] == "stopped"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--plan", "nowhere.json"], "nowhere.json"),
        (["--key", "coopexport.toml"], "give --certificate"),
        (["--certificate", "coopexport.toml"], "certificates cannot be used"),
    ],
)
def test_bad_input_is_one_line(coopexport: Callable, finished_project: Path, arguments: list[str], said: str) -> None:
    result = coopexport(finished_project, "serve", *arguments)
    assert result.code == 2
    assert said in result.error_lines[-1]
