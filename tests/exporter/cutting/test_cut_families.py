"""Every cut of well-known networks, from the files, is exact with ONNX Runtime's optimisation disabled."""

from __future__ import annotations

from pathlib import Path

import pytest
from family_graphs import exported, write_all
from network_families import FULL_FAMILIES, Family, settle_masked

from exporter.cutting.pair_parity import pairs_parity
from exporter.layers.export import export
from exporter.masks.masks import Masks

# Family, how many tensors may cross, and at how many cuts the small network must be cut by that.
SMALL = (
    ("resnet18_small", 1, 20),
    ("resnet50_small", 1, 15),
    ("mobilenetv2_small", 1, 25),
    ("mobilenetv3_small", 1, 25),
    ("densenet_small", 1, 20),
    ("googlenet_small", 1, 12),
    ("shufflenetv2_small", 1, 15),
    ("efficientnet_small", 1, 25),
    ("vgg_small", 1, 20),
    ("unet_small", 4, 25),
)
PUBLISHED = {
    "resnet18": 1, "resnet50": 1, "mobilenetv2_w1": 1, "mobilenetv3_large_w1": 1, "densenet121": 1, "googlenet": 1,
    "shufflenetv2_w1": 1, "efficientnet_b0": 1, "bn_vgg16": 1, "unet": 5,
}  # fmt: skip
# At these optimisation levels a fusion may reach across the cut; more than rounding it must not be.
MAX_DIFFERENCE = 1e-4


@pytest.mark.parametrize(("name", "maximum", "least"), SMALL)
def test_every_cut_of_a_small_network_is_exact(name: str, maximum: int, least: int, tmp_path: Path) -> None:
    pairs = write_all(exported(name), tmp_path, maximum)
    proofs = pairs_parity(tmp_path)
    assert len(proofs) == len(pairs.pairs) >= least
    assert max(proof.difference_extended for proof in proofs) < MAX_DIFFERENCE
    assert max(proof.difference_all for proof in proofs) < MAX_DIFFERENCE


@pytest.mark.full
@pytest.mark.parametrize(
    "family", [item for item in FULL_FAMILIES if item.name in PUBLISHED], ids=lambda item: item.name
)
def test_every_cut_of_a_published_network_is_exact(family: Family, tmp_path: Path) -> None:
    inputs = family.inputs(4)
    # With statistics that do not fit, the outputs of a deep network hardly depend on its input.
    model = export(settle_masked(family.build(), Masks({}, "channel"), inputs), inputs[0]).model
    pairs = write_all(model, tmp_path, PUBLISHED[family.name])
    proofs = pairs_parity(tmp_path)
    assert len(proofs) == len(pairs.pairs) > 15
    assert max(proof.difference_extended for proof in proofs) < MAX_DIFFERENCE
    assert max(proof.difference_all for proof in proofs) < MAX_DIFFERENCE
