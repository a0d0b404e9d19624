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
from engines.building.pair import open_pair
from engines.serving.plan_pairs import open_release
from engines.serving.serve import Listening, ServeRequest, serve_plan
from engines.serving.served_pair import run_batch
from engines.targets.lookup import find_target
from exporter.bundles.bundle import read_golden, read_whole, split_layers
from exporter.progress import no_progress
from jetson.agent.command_line import main
from jetson.client.run_command import RunOptions, run
from jetson.errors import CoopexportError
from jetson.runtime.partition_policy import read_partition_policy
from jetson.runtime.preprocessing import network_inputs
from jetson.wire.image_message import raw_payload

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
        (outputs,) = network([network_inputs(declaration, arrived[None])])
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


def test_the_agents_command_runs_and_refuses_a_way_that_it_has_not(
    serving: Serving, finished_project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frames, images = frames_of(finished_project)
    plan = str(finished_project / "out" / "plan.json")
    command = ["run", "--plan", plan, "--frames", str(frames), "--target", "cpu"]
    assert main([*command, "--edge", serving.address, "--deadline-ms", "1000", "--json"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(images)
    for wrong, said in ((["--way", "9999"], "--way 9999"), (["--key", "x.pem"], "without --authority")):
        assert main([*command, "--edge", "127.0.0.1:1", *wrong]) == 2
        assert said in capsys.readouterr().err.splitlines()[-1]


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


def choose(plan: Path, *numbers: int) -> None:
    """Have a plan choose these candidates, the first at the lowest goodputs."""
    content = json.loads(plan.read_text())
    bounds = [0.0, *(1e6 * (place + 1) for place in range(len(numbers) - 1)), None]
    content["intervals"] = [
        {"from_bps": bounds[place], "upto_bps": bounds[place + 1], "candidate": number}
        for place, number in enumerate(numbers)
    ]
    content["envelopes"] = [dict(content["envelopes"][0], intervals=content["intervals"])]
    plan.write_text(json.dumps(content))


def candidate_of(plan: Path, layer: str, coding: str) -> int:
    """Return the number of the first candidate that begins with these."""
    candidates = json.loads(plan.read_text())["candidates"]
    return next(
        number
        for number, one in enumerate(candidates)
        if one["layer"] == layer and one["coding"].startswith(coding) and one["variant"] == "original"
    )


def test_a_bundle_that_is_missing_costs_its_own_pair_only(finished_project: Path) -> None:
    plan = finished_project / "out" / "plan.json"
    content = json.loads(plan.read_text())
    split = candidate_of(plan, split_layers(plan.parent / "original")[0], "")
    gone = dict(content["candidates"][split], variant="gone", files={"head": "gone/x.onnx", "tail": "gone/y.onnx"})
    content["candidates"].append(gone)
    plan.write_text(json.dumps(content))
    choose(plan, split, len(content["candidates"]) - 1)
    serving = Serving(plan)
    serving.end()
    assert [pair.split()[0] for pair in serving.listening[0].refused] == ["gone"]
    assert len(serving.listening[0].pairs) == 1


def test_several_requests_run_at_once_and_give_what_each_gives_alone(
    coopexport: Callable, finished_project: Path
) -> None:
    plan, cpu = finished_project / "out" / "plan.json", find_target("cpu")
    layer = split_layers(plan.parent / "original")[0]
    choose(plan, candidate_of(plan, layer, ""), candidate_of(plan, "input", "raw"))
    images = frames_of(finished_project)[1][:3]
    pair = open_pair(plan.parent / "original", layer, cpu, cpu)
    payloads = {
        "feature": [pair.encode(pair.head([pair.preprocess(image)])) for image in images],
        "raw": [raw_payload(image) for image in images],
    }
    assert coopexport(finished_project, "build", "--variant", "original", "--batch", "1-2-4").code == 0
    opened = open_release(plan, cpu, no_progress, (1, 2, 4))
    assert sorted(served.pair.kind for served in opened.release.pairs.values()) == ["feature", "raw"]
    for served in opened.release.pairs.values():
        assert served.most_batch == 4
        together = run_batch(served, [served.decode(payload) for payload in payloads[served.pair.kind]])
        alone = [pair.tail(pair.decode(payload))[0] for payload in payloads["feature"]]
        if served.pair.kind == "raw":
            alone = [run_batch(served, [served.decode(payload)])[0][0] for payload in payloads["raw"]]
            alone = [np.frombuffer(one, "<f4") for one in alone]
        for (found,), wanted in zip(together, alone, strict=True):
            np.testing.assert_allclose(np.frombuffer(found, "<f4"), np.ravel(wanted), atol=1e-4)
        assert len({found for (found,) in together}) == len(images), "images that all give the same say nothing"
    opened.close()


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
        (["--batch", "4"], "cannot serve a lone device"),
        (["--certificate", "coopexport.toml"], "certificates cannot be used"),
    ],
)
def test_bad_input_is_one_line(coopexport: Callable, finished_project: Path, arguments: list[str], said: str) -> None:
    result = coopexport(finished_project, "serve", *arguments)
    assert result.code == 2
    assert said in result.error_lines[-1]
