"""Bottlenecks of a project: searched, registered, split; what crosses is what was trained."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from chain_project import write_chain_project

from calibration.splitting.search_project import SearchRequest, search_project
from calibration.splitting.split_project import SplitRequest, split_project
from calibration.variants.bottleneck_project import (
    Bottlenecked,
    BottleneckRequest,
    BottleneckResult,
    TriedBottleneck,
    bottleneck_project,
)
from calibration.variants.registry import open_registry
from calibration.variants.variant_maker import LeftOut
from exporter.bottleneck.plan import BOTTLENECK_FILE, read_bottleneck, read_tables
from exporter.bottleneck.quantiser import Quantiser
from exporter.bundles.bundle import SplitFile, read_split
from exporter.data.datasets import load_dataset, network_inputs
from exporter.onnx_graphs.session import open_session, run
from exporter.project.settings import Project, load_project
from exporter.variants.layer_graphs import trained_records, variants
from exporter.variants.plans import check_plan, load_variant
from exporter.variants.record import VariantRecord, write_variant_record
from jetson.errors import InputError, ParityError, StaleError, UnsupportedError
from jetson.runtime.bundle_manifest import read_bundle_manifest, read_feature_codec

REQUEST = BottleneckRequest(
    ("conv1",), maximum_loss_points=10, trainings=4, channels=2, bits=2, first_epochs=6, epochs=3
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, BottleneckResult, list[Bottlenecked]]:
    """A project with bottlenecks behind conv1, split. Do not write into it."""
    folder = tmp_path_factory.mktemp("bottlenecks")
    project = write_chain_project(folder)
    told: list[Bottlenecked] = []
    result = bottleneck_project(project, REQUEST, on_result=told.append)
    split_project(project, SplitRequest(("conv1-bottleneck-*",), all_layers=True))
    return folder, result, told


@pytest.fixture
def project(made: tuple[Path, BottleneckResult, list[Bottlenecked]], tmp_path: Path) -> Project:
    """A copy of it to write into."""
    return load_project(Path(shutil.copytree(made[0], tmp_path / "project")) / "coopexport.toml")


def bundle_of(project: Project, variant: str) -> SplitFile:
    return read_split(project.variant_folder(variant), "bottleneck")


def test_each_training_begins_with_the_last_that_held_and_the_front_is_registered(
    made: tuple[Path, BottleneckResult, list[Bottlenecked]],
) -> None:
    _, result, told = made
    trials = [one for one in told if isinstance(one, TriedBottleneck)]
    assert [one.number for one in trials] == [1, 2, 3, 4]
    first = trials[0]
    assert (first.stride, first.channels, first.bits, first.rate_weight, first.holds) == (2, 2, 2, 0.0, True)
    assert trials[1].rate_weight > 0
    assert (trials[1].stride, trials[1].channels, trials[1].bits) == (2, 2, 2)
    assert any(one.channels == 1 or one.bits == 1 for one in trials[2:])
    assert all(one.holds == (one.loss_points <= 10 + 1e-6) for one in trials)
    bytes_ = [record.method["estimated_bytes"] for record in result.variants]
    assert result.variants and bytes_ == sorted(bytes_, reverse=True)
    assert min(bytes_) == min(one.estimated_bytes for one in trials if one.holds)
    assert [record.variant for record in result.variants] == [
        f"conv1-bottleneck-{number}" for number in range(1, len(bytes_) + 1)
    ]
    for record in result.variants:
        assert (record.parent, record.step, record.cuts) == ("original", "bottleneck", ("bottleneck",))
        assert 0 < record.method["reduction_parameters"] < record.method["encoder_parameters"] < record.parameters


def test_the_bundle_computes_what_was_registered_and_its_bytes_are_those_that_were_trained(
    made: tuple[Path, BottleneckResult, list[Bottlenecked]],
) -> None:
    project = load_project(made[0] / "coopexport.toml")
    for record in made[1].variants:
        bundle, file = bundle_of(project, record.variant), read_bottleneck(project.variant_folder(record.variant))
        assert bundle.metric.value == bundle.metric.reference == record.metric.value
        (tensor,) = bundle.tensors
        assert (tensor.shape, tensor.encoding.bits) == ((file.channels, 4, 4), file.bits)
        assert (tensor.encoding.low, tensor.encoding.clip.method) == ((0.0,), "bounded")
        assert tensor.tables is not None
        tables = project.variant_folder(record.variant) / tensor.tables.file
        assert tables.read_bytes() == (project.variant_folder(record.variant) / file.tables).read_bytes()
        # 3 % of the estimate and 8 bytes of header and coder state.
        assert abs(bundle.payload_bytes.mean - file.estimated_bytes) <= 0.03 * file.estimated_bytes + 8


def test_the_exported_heads_symbols_are_the_trained_networks(
    made: tuple[Path, BottleneckResult, list[Bottlenecked]],
) -> None:
    project = load_project(made[0] / "coopexport.toml")
    inputs = network_inputs(project, load_dataset(project, "training"))
    variant = made[1].variants[0].variant
    folder, file = project.variant_folder(variant), read_bottleneck(project.variant_folder(variant))
    head = onnx.load(folder / "bottleneck.head.onnx", load_external_data=False)
    sent = run(open_session(head, "all", weights_folder=folder), [inputs])[0]
    network, crossing = load_variant(project, variant), []
    network.get_submodule("bottleneck_bound").register_forward_hook(lambda _m, _i, output: crossing.append(output))
    with torch.no_grad():
        network(torch.from_numpy(inputs))
    scaled = crossing[0].numpy() * ((1 << file.bits) - 1)
    far_from_boundary = np.abs(scaled - np.floor(scaled) - 0.5) > 1e-4
    wanted = Quantiser(file.bits, file.channels).symbols(crossing[0]).numpy()
    assert far_from_boundary.mean() > 0.99
    assert len(np.unique(wanted)) > 1
    assert np.array_equal(sent[far_from_boundary], wanted[far_from_boundary])


def test_messages_of_its_codec_go_through_head_and_tail(
    made: tuple[Path, BottleneckResult, list[Bottlenecked]],
) -> None:
    project = load_project(made[0] / "coopexport.toml")
    data = load_dataset(project, "evaluation")
    inputs = network_inputs(project, data)
    record = made[1].variants[-1]
    folder = project.variant_folder(record.variant)
    codec = read_feature_codec(str(folder), read_bundle_manifest(str(folder / "bottleneck.split.json")))
    halves = [onnx.load(folder / f"bottleneck.{half}.onnx", load_external_data=False) for half in ("head", "tail")]
    head, tail = (open_session(half, "all", weights_folder=folder) for half in halves)
    right = 0
    for index in range(len(inputs)):
        message = codec.encode(run(head, [inputs[index : index + 1]]))
        right += int(run(tail, codec.decode(message))[0].argmax() == data.labels[index])
    assert right / len(inputs) == pytest.approx(record.metric.value)


def test_a_killed_search_goes_on_to_the_same_variants(
    made: tuple[Path, BottleneckResult, list[Bottlenecked]], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(made[0], tmp_path / "killed"))
    shutil.rmtree(folder / "out" / "bottlenecks")
    for path in (folder / "out").glob("conv1-bottleneck-*"):
        shutil.rmtree(path)
    project = load_project(folder / "coopexport.toml")

    def stop(found: Bottlenecked) -> None:
        if isinstance(found, TriedBottleneck) and found.number == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bottleneck_project(project, REQUEST, on_result=stop)
    assert variants(project) == ["original"]
    trained: list[str] = []
    result = bottleneck_project(project, REQUEST, on_progress=lambda label, _done, _total: trained.append(label))
    assert set(trained) == {"conv1 trial-3", "conv1 trial-4"}
    assert [(one.variant, one.method, one.metric) for one in result.variants] == [
        (one.variant, one.method, one.metric) for one in made[1].variants
    ]


def test_what_is_there_is_not_trained_again_and_other_settings_do_not_replace_it_unasked(project: Project) -> None:
    trained: list[str] = []
    before = trained_records(project)
    result = bottleneck_project(project, REQUEST, on_progress=lambda label, _done, _total: trained.append(label))
    assert not trained
    assert list(result.variants) == before
    other = BottleneckRequest(("conv1",), maximum_loss_points=10, trainings=1, channels=3, bits=2, first_epochs=6)
    with pytest.raises(InputError, match=r"other bottleneck settings \(conv1-bottleneck-1\): pass --replace"):
        bottleneck_project(project, other)
    assert trained_records(project) == before
    replaced = bottleneck_project(project, replace(other, replace=True)).variants
    assert [record.method["channels"] for record in replaced] == [3]
    assert trained_records(project) == list(replaced)


def test_other_weights_of_the_parent_make_it_stale(project: Project) -> None:
    variant = trained_records(project)[0].variant
    check_plan(project, variant)
    weights = (project.folder / "network.safetensors").read_bytes()
    (project.folder / "network.safetensors").write_bytes(weights[:-4] + b"\x00\x00\x00\x00")
    with pytest.raises(StaleError, match=r"bottleneck-1 was made .*parent.*coopexport bottleneck --layer conv1"):
        check_plan(project, variant)


def test_damaged_tables_are_refused(project: Project) -> None:
    folder = project.variant_folder(trained_records(project)[0].variant)
    file = read_bottleneck(folder)
    (folder / file.tables).write_bytes(b"")
    with pytest.raises(Exception, match=f"is not the file that {BOTTLENECK_FILE} names"):
        read_tables(folder, file)


def test_one_for_a_frozen_tail_leaves_the_edges_side_as_it_is(project: Project) -> None:
    request = BottleneckRequest(
        ("conv2",), maximum_loss_points=60, trainings=1, channels=4, bits=4, first_epochs=4, tail="frozen"
    )
    (record,) = bottleneck_project(project, request).variants
    own, parent = load_variant(project, record.variant).state_dict(), load_variant(project, "original").state_dict()
    assert all(torch.equal(own[name], parent[name]) for name in parent if name.startswith("fc"))
    assert not torch.equal(own["conv1.weight"], parent["conv1.weight"])
    tuned = load_variant(project, "conv1-bottleneck-1").state_dict()
    assert not torch.equal(tuned["fc.weight"], parent["fc.weight"])


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ({"layers": ("fc",)}, UnsupportedError, "more than one tensor|clean cut"),
        ({"channels": 40}, UnsupportedError, r'layer "conv1": 8x8x8 to 40x4x4 is no reduction'),
        ({"layers": ("nowhere",)}, InputError, 'there is no layer "nowhere"; the nearest are'),
        ({"layers": ()}, InputError, "say where to cut"),
        ({"bits": 9}, InputError, "bits"),
        (
            {"maximum_loss_points": 0, "trainings": 1, "first_epochs": 0.2, "channels": 1, "bits": 1},
            ParityError,
            r'layer "conv1": no bottleneck keeps the bound of 0 points; the nearest of 1 \(1 channels, stride 2, '
            r"1 bits, [\d.]+ bytes\) loses [\d.]+",
        ),
        ({"variant": "conv1-bottleneck-1"}, InputError, "has a bottleneck already"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(
    project: Project, change: dict[str, Any], error: type[Exception], said: str
) -> None:
    before = trained_records(project)
    with pytest.raises(error, match=said) as caught:
        bottleneck_project(project, replace(REQUEST, replace=True, **change))
    assert "\n" not in str(caught.value)
    if "maximum_loss_points" not in change:
        assert trained_records(project) == before


def test_of_all_cuts_those_that_cannot_be_reduced_are_left_out(
    made: tuple[Path, BottleneckResult, list[Bottlenecked]], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(made[0], tmp_path / "all"))
    project = load_project(folder / "coopexport.toml")
    request = BottleneckRequest(
        all_layers=True, maximum_loss_points=100, trainings=1, channels=10, bits=2, first_epochs=0.2, replace=True
    )
    result = bottleneck_project(project, request)
    assert {record.method["layer"] for record in result.variants} == {"conv1", "conv2", "pool"}
    assert all(isinstance(record, VariantRecord) for record in result.variants)
    assert all(isinstance(one, LeftOut) for one in result.left_out)


def test_only_split_cuts_at_a_bottleneck_and_only_there(project: Project) -> None:
    every = len(variants(project))
    searched = search_project(project, SearchRequest(layers=("conv2",)))
    assert {cut.found.variant for cut in searched.cuts} == {"original"}
    assert searched.left_out == every - 1
    result = split_project(
        project, SplitRequest(all_layers=True, bits=6, at="pre-activation", maximum_loss_points=50.0)
    )
    cuts = {
        (bundle.variant, bundle.layer, bundle.position, bundle.tensors[0].encoding.bits) for bundle in result.bundles
    }
    of_bottlenecks = {cut for cut in cuts if cut[0] != "original"}
    assert of_bottlenecks == {
        (record.variant, "bottleneck", "post-activation", record.method["bits"]) for record in trained_records(project)
    }
    assert {cut[1] for cut in cuts - of_bottlenecks} == {"conv1", "conv2"}


def test_the_registry_measures_a_variant_again_when_its_record_is_stale(project: Project) -> None:
    record = trained_records(project)[-1]
    write_variant_record(
        project.variant_folder(record.variant), record.model_copy(update={"made_from": {}, "macs": record.macs + 1})
    )
    registry = open_registry(project)
    assert {one.variant: one for one in registry.records}[record.variant] == record
    assert not registry.outdated


def test_a_longer_search_takes_what_is_trained_already(project: Project) -> None:
    trained: list[str] = []
    longer = replace(REQUEST, trainings=5, maximum_loss_points=12, replace=True)
    result = bottleneck_project(project, longer, on_progress=lambda label, _done, _total: trained.append(label))
    assert set(trained) == {"conv1 trial-5"}
    assert result.variants


def test_what_began_with_other_weights_is_trained_again(project: Project) -> None:
    trained: list[str] = []
    other = replace(REQUEST, first_epochs=5, replace=True)
    bottleneck_project(project, other, on_progress=lambda label, _done, _total: trained.append(label))
    assert set(trained) >= {"conv1 trial-1", "conv1 trial-2"}


def test_a_vector_is_reduced_as_well(project: Project) -> None:
    request = BottleneckRequest(("/Flatten",), maximum_loss_points=100, trainings=2, first_epochs=1, epochs=1)
    (record, *_) = bottleneck_project(project, request).variants
    split_project(project, SplitRequest((record.variant,), all_layers=True))
    (tensor,) = bundle_of(project, record.variant).tensors
    assert tensor.shape == (record.method["channels"],)


def test_patience_of_other_trainings_does_not_matter(project: Project) -> None:
    path = project.folder / "coopexport.toml"
    path.write_text(path.read_text().replace("[training]", "[training]\npatience = 1"))
    request = replace(REQUEST, layers=("conv2",), trainings=1, maximum_loss_points=100)
    (record,) = bottleneck_project(load_project(path), request).variants
    assert record.training["images"] == 96 * 6


def test_images_without_labels_will_do(tmp_path: Path) -> None:
    """Where the labels of the same images are wrong, nothing changes: they count for nothing."""
    results = []
    for name, wrong in (("true", False), ("wrong", True)):
        (tmp_path / name).mkdir()
        project = write_chain_project(tmp_path / name)
        file = project.folder / "coopexport.toml"
        with np.load(project.folder / "train.npz") as content:
            images, labels = content["images"], content["labels"]
        np.savez(project.folder / "more.npz", images=images, **({"labels": labels[::-1]} if wrong else {}))
        file.write_text(file.read_text().replace("[data]\n", '[data]\nunlabelled = "more.npz"\n'))
        told: list[Bottlenecked] = []
        request = replace(REQUEST, trainings=1, maximum_loss_points=60)
        (record,) = bottleneck_project(load_project(file), request, on_result=told.append).variants
        assert "unlabelled data" in read_bottleneck(project.variant_folder(record.variant)).made_from
        results.append((record.metric.value, record.method["estimated_bytes"]))
    assert results[0] == results[1]
    assert results[0][0] > 0.8  # of three classes


def test_without_labels_validation_data_still_judge(tmp_path: Path) -> None:
    project = write_chain_project(tmp_path)
    file = tmp_path / "coopexport.toml"
    text = file.read_text().replace(
        'training = "train.npz"\nvalidation = "held_out.npz"\n', 'unlabelled = "train.npz"\n'
    )
    file.write_text(text)
    with pytest.raises(InputError, match=r"data.training is not set"):
        bottleneck_project(load_project(file), REQUEST)
    file.write_text(text.replace("unlabelled", 'validation = "held_out.npz"\nunlabelled'))
    assert bottleneck_project(load_project(file), replace(REQUEST, trainings=1)).variants
    assert project.folder == tmp_path


def test_a_network_that_was_pruned_elsewhere_takes_one(finished_project: Path) -> None:
    project = load_project(finished_project / "coopexport.toml")
    request = BottleneckRequest(
        ("pool1",), variant="pruned", maximum_loss_points=100, trainings=1, channels=2, bits=2, first_epochs=0.5
    )
    (record,) = bottleneck_project(project, request).variants
    assert (record.variant, record.parent) == ("pruned-pool1-bottleneck-1", "pruned")
    pruned = load_variant(project, "pruned")
    made = load_variant(project, record.variant)
    for name in ("features.conv1_1", "features.conv4_1"):  # as narrow as it was
        assert made.get_submodule(name).weight.shape == pruned.get_submodule(name).weight.shape
    (found,) = split_project(project, SplitRequest((record.variant,), all_layers=True)).variants
    (bundle,) = found.bundles
    assert bundle.tensors[0].shape == (2, 8, 8)
    assert bundle.metric.value == record.metric.value
