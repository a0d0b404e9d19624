"""The search over a project recommends what its own trials say, and splitting follows it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from residual_project import write_residual_project

from calibration.splitting.search_project import SearchedCut, SearchRequest, search_project
from calibration.splitting.split_project import SplitRequest, split_project
from exporter.project.overrides import SettingError
from exporter.project.settings import SplitSection, load_project
from jetson.errors import CoopexportError


def test_the_search_recommends_and_split_follows(project: Path) -> None:
    file = project / "coopexport.toml"
    file.write_text(file.read_text().replace("maximum_loss_points = 1.0", "maximum_loss_points = 6.0"))
    project = load_project(file)
    told: list[SearchedCut] = []
    steps: list[tuple[str, int, int]] = []
    request = SearchRequest(layers=("conv4_1",), maximum_loss_points=2)
    result = search_project(project, request, lambda *step: steps.append(step), told.append)
    (cut,) = result.cuts
    assert (told, result.left_out) == ([cut], 0)
    assert (cut.found.variant, cut.found.layer, cut.found.maximum_loss_points) == ("original", "conv4_1", 2)
    assert steps[-1][0] == "searching original (1 of 1)"
    assert steps[-1][1] == steps[-1][2] > 0
    found = json.loads(cut.path.read_text())
    chosen = found["recommended"]
    assert chosen["loss_points"] + chosen["loss_error_points"] <= 2
    allowed = [other for other in found["front"] if other["loss_points"] + other["loss_error_points"] <= 2]
    assert chosen["payload_bytes"] <= min(other["payload_bytes"] for other in allowed) + 1
    assert found["rans"] in ("c", "python")

    (split,) = split_project(project, SplitRequest(layers=("conv4_1",), recommended=True)).variants
    (bundle,) = split.bundles
    encoding = bundle.tensors[0].encoding
    assert (encoding.bits, bundle.codec) == (chosen["bits"], chosen["codec"])
    assert encoding.clip is not None
    assert (encoding.clip.method, encoding.clip.granularity) == (chosen["clip"], chosen["granularity"])
    assert bundle.payload_bytes.mean == pytest.approx(chosen["payload_bytes"], rel=0.1)

    with pytest.raises(CoopexportError, match="coopexport search --layer pool3"):
        split_project(project, SplitRequest(layers=("pool3",), recommended=True))
    found["made_from"]["graph"] = "0" * 64
    cut.path.write_text(json.dumps(found))
    with pytest.raises(
        CoopexportError,
        match=r"encodings\.json was made before graph changed; run: coopexport search",
    ):
        split_project(project, SplitRequest(layers=("conv4_1",), recommended=True))


def test_what_cannot_be_searched_is_refused(tmp_path: Path) -> None:
    project = write_residual_project(tmp_path)
    with pytest.raises(SettingError, match=r"^maximum_loss_points: Input should be greater than or equal to 0"):
        search_project(project, SearchRequest(maximum_loss_points=-1))
    with pytest.raises(CoopexportError, match="2 tensors cross there"):
        search_project(project, SearchRequest(layers=("block1.conv1",)))
    settings = {name for name, value in vars(SearchRequest()).items() if value is None}
    assert settings and settings <= set(SplitSection.model_fields)
