"""Building for every version: flags and settings by the names that it has, and wishes that it cannot grant."""

import numpy as np
import pytest
import tensorrt_graphs
from tensorrt_case import RTX, build, settings_for, symbols_of, tensorrt
from tensorrt_doubles.engine_file import decode_engine
from tensorrt_doubles.installing import VERSIONS

from jetson.engines.build_settings import BuildSettings, settings_from_json
from jetson.errors import CoopexportError
from jetson.tensorrt_engines.build import build_engine

EVERY = [*VERSIONS, RTX]
OLD = ("8.2", "8.5", "8.6")


def noted(library, built):
    """Return what the double's engine keeps of its build."""
    return decode_engine(built.data, library.name, library.module._world.numbers)[1]


def dynamic_head(version):
    return tensorrt_graphs.head("batch", symbols_of(version))


@pytest.mark.parametrize("version", EVERY)
def test_an_engine_says_what_it_is(version):
    with tensorrt(version) as library:
        built = build(library, version, tensorrt_graphs.head(symbols=symbols_of(version)))
        assert built.data[:4] == {RTX: b"vtrt", "8.2": b"ptrt", "8.5": b"ptrt"}.get(version, b"ftrt")
        assert built.version == ".".join(map(str, library.module._world.numbers))
        assert built.version.startswith(library.version)
        assert built.warnings == []
        assert settings_from_json({key: built.flags[key] for key in BuildSettings._fields}) == settings_for(version)
        assert built.flags["strongly_typed"] == (version not in OLD)


@pytest.mark.parametrize("version", EVERY)
def test_tf32_is_cleared_unless_asked_for(version):
    with tensorrt(version) as library:
        graph = tensorrt_graphs.tail(symbols=symbols_of(version))
        assert "TF32" not in noted(library, build(library, version, graph))["flags"]
        assert "TF32" in noted(library, build(library, version, graph, tf32=True))["flags"]


@pytest.mark.parametrize("version", EVERY)
@pytest.mark.parametrize(
    ("graph", "precision", "flags"),
    [
        (tensorrt_graphs.half(), "fp16", ["FP16"]),
        (tensorrt_graphs.quantised(), "int8", ["INT8"]),
        (tensorrt_graphs.quantised(mixed=True), "int8", ["INT8", "FP16"]),
    ],
    ids=["fp16", "int8", "int8 and fp16"],
)
def test_precision_is_in_the_graph_and_told_to_8_by_flags(version, graph, precision, flags):
    expected = flags if version in OLD else []
    with tensorrt(version) as library:
        built = build(library, version, graph, precision=precision)
        assert built.flags["precision_flags"] == expected
        assert set(noted(library, built)["flags"]) - {"PREFER_PRECISION_CONSTRAINTS"} == set(expected)
        if version in OLD:  # without its flag, 8 refuses the dtype
            with pytest.raises(CoopexportError, match=r"built no engine: .*is not configured in the builder"):
                build(library, version, graph, precision="fp32")


def partly_half():
    """A network whose second convolution is half in the graph, and whose quotient must not be."""
    node, symbols = tensorrt_graphs.node, tensorrt_graphs.head().graph
    nodes = list(symbols.node)[:3]
    nodes[0].output[0] = "first"
    nodes.insert(1, node("Cast", ["first"], ["h"], name="/to_half", to=10))
    nodes.insert(2, node("Add", ["h", "shift"], ["a"], name="/add"))
    nodes[3].input[0] = "a"
    nodes.insert(4, node("Cast", ["r"], ["f"], name="/to_float", to=1))
    nodes[5].input[0] = "f"
    nodes[5].output[0] = "y"
    parts = [*symbols.initializer, tensorrt_graphs.constant("shift", np.float16(0.5))]
    return tensorrt_graphs.model(nodes, [("images", 1, [1, 3, 6, 6])], [("y", 1, [1, 4, 6, 6])], parts)


@pytest.mark.parametrize("version", VERSIONS)
def test_8_keeps_in_float32_what_the_graph_does(version):
    """Its flag would be leave to compute the others in half as well."""
    with tensorrt(version) as library:
        built = build(library, version, partly_half(), precision="fp16")
        kept = noted(library, built)["constraints"]
        if version in OLD:
            assert kept == {"/features/conv": "FLOAT", "/encode/div": "FLOAT"}
        else:
            assert kept == {}
        assert built.flags["kept_in_fp32"] == len(kept)
        quantised = build(library, version, tensorrt_graphs.quantised(mixed=True), precision="int8")
        assert noted(library, quantised)["constraints"] == {}


def test_a_warning_that_is_said_of_every_layer_is_told_once():
    with tensorrt("10.3") as library:
        module = library.module
        build_serialized = module.Builder.build_serialized_network

        def talk(self, network, config):
            for index in range(100):
                module._world.log("WARNING", "weights are clipped" if index < 50 else f"layer {index}")
            return build_serialized(self, network, config)

        module.Builder.build_serialized_network = talk
        warnings = build(library, "10.3", tensorrt_graphs.half()).warnings
    assert warnings[:2] == ["weights are clipped", "layer 50"]
    assert len(warnings) == 20


@pytest.mark.parametrize("version", EVERY)
def test_the_workspace_is_limited_by_the_call_that_there_is(version):
    with tensorrt(version) as library:
        graph = tensorrt_graphs.tail(symbols=symbols_of(version))
        built = build(library, version, graph, workspace_bytes=1 << 20)
        assert noted(library, built)["workspace_bytes"] == built.flags["workspace_limit_bytes"] == 1 << 20
        own = build(library, version, graph)
        # 8.2 allows none at all unless told.
        assert own.flags["workspace_limit_bytes"] == (256 << 20 if version == "8.2" else None)
        assert noted(library, own)["workspace_bytes"] == (256 << 20 if version == "8.2" else 0)


@pytest.mark.parametrize("version", EVERY)
def test_the_optimization_level_is_set_or_refused(version):
    with tensorrt(version) as library:
        graph = tensorrt_graphs.tail(symbols=symbols_of(version))
        if version in ("8.2", "8.5"):
            with pytest.raises(CoopexportError, match=r"has no optimization level \(8\.6 is the first\)"):
                build(library, version, graph, optimization_level=5)
        else:
            assert noted(library, build(library, version, graph, optimization_level=5))["optimization_level"] == 5


@pytest.mark.parametrize("version", EVERY)
def test_a_dynamic_batch_gets_its_profile(version):
    with tensorrt(version) as library:
        built = build(library, version, dynamic_head(version), batches=(1, 4, 8))
        shapes = noted(library, built)["profile"]["images"]
        assert shapes == [[1, 3, 6, 6], [4, 3, 6, 6], [8, 3, 6, 6]]
        static = build(library, version, dynamic_head(version))
        assert {tuple(shape) for shape in noted(library, static)["profile"]["images"]} == {(1, 3, 6, 6)}


@pytest.mark.parametrize("version", EVERY)
@pytest.mark.parametrize("batches", [(0, 1, 1), (2, 1, 3), (1, 3, 2), (-1, 1, 1)])
def test_batch_sizes_in_no_order_are_refused_by_us(version, batches):
    """TensorRT drops such a profile without a word."""
    with tensorrt(version) as library:
        with pytest.raises(CoopexportError, match="are not in order"):
            build(library, version, dynamic_head(version), batches=batches)
        profile = library.module.Builder(library.logger).create_optimization_profile()
        assert profile.set_shape("images", *[(batch, 3, 6, 6) for batch in batches]) is None
        assert profile.get_shape("images") == []


@pytest.mark.parametrize("version", EVERY)
@pytest.mark.parametrize("batches", [(1, 2, 2), (2, 2, 2)])
def test_a_fixed_graph_has_one_batch_size(version, batches):
    with tensorrt(version) as library, pytest.raises(CoopexportError, match="fixed to batch 1; asked for"):
        build(library, version, tensorrt_graphs.head(symbols=symbols_of(version)), batches=batches)


def test_sizes_behind_the_batch_have_to_be_known():
    node = tensorrt_graphs.node("Relu", ["x"], ["y"])
    graph = tensorrt_graphs.model([node], [("x", 1, ["n", "c"])], [("y", 1, ["n", "c"])])
    with tensorrt("10.3") as library, pytest.raises(CoopexportError, match="unknown size behind its batch"):
        build(library, "10.3", graph)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_dla_with_and_without_the_gpu_behind_it(version):
    with tensorrt(version, dla_cores=2) as library:
        whole, part = tensorrt_graphs.quantised(), {"precision": "int8", "dla_core": 1}
        built = build(library, version, whole, **part)
        assert noted(library, built)["dla_core"] == 1
        assert "GPU_FALLBACK" in noted(library, built)["flags"]
        # Weakly typed where there are flags for it, the only way that is documented for a DLA there.
        typed = version in ("11.1", "11.4")
        assert built.flags["strongly_typed"] == typed
        assert built.flags["precision_flags"] == ([] if typed else ["INT8"])
        with pytest.raises(CoopexportError, match=r"Layer /q is not supported on DLA and GPU fallback is not enabled"):
            build(library, version, whole, gpu_fallback=False, **part)
        with pytest.raises(CoopexportError, match=r"DLA core 2 is asked for; .* finds 2 DLA cores"):
            build(library, version, whole, precision="int8", dla_core=2)
    with tensorrt(version) as library, pytest.raises(CoopexportError, match="finds no DLA here"):
        build(library, version, whole, **part)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"dla_core": 0}, "not in fp32"),
        ({"dla_core": 0, "precision": "int8", "batches": (1, 1, 2)}, "one batch size only"),
        ({"precision": "fp8"}, '"fp8" is not one of fp32, fp16, int8'),
        ({"optimization_level": 6}, "not one of 0 to 5"),
    ],
)
def test_impossible_wishes_are_refused_before_any_work(changes, said):
    with tensorrt("10.3", driver=False) as library, pytest.raises(CoopexportError, match=said):
        build_engine(library, b"not looked at", BuildSettings(**changes))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (BuildSettings(), "name the compute capabilities"),
        (BuildSettings(compute_capabilities=("8.9", "8.7")), r"does not build for SM 8\.7"),
        (BuildSettings(compute_capabilities=("8.9",), dla_core=0, precision="int8"), "does not know the DLA"),
    ],
)
def test_rtx_refuses_what_is_the_jetsons(settings, said):
    with tensorrt(RTX) as library, pytest.raises(CoopexportError, match=said):
        build_engine(library, b"not looked at", settings)


def test_rtx_builds_for_several_gpus_at_once():
    with tensorrt(RTX) as library:
        built = build(library, RTX, tensorrt_graphs.head(), compute_capabilities=("8.6", "8.9", "12.0"))
        assert int.from_bytes(built.data[32:36], "little") == 4 + 8 + 0x10
        with pytest.raises(CoopexportError, match=r"/classifier: FP32 GEMM is not supported"):
            build(library, RTX, tensorrt_graphs.tail(), compute_capabilities=("7.5",))


@pytest.mark.parametrize("version", VERSIONS)
def test_a_timing_cache_is_used_again_where_it_fits(version):
    graph = tensorrt_graphs.half()
    with tensorrt(version) as library:
        first = build_engine(library, graph.SerializeToString(), BuildSettings("fp16"))
        again = build_engine(library, graph.SerializeToString(), BuildSettings("fp16"), timing_cache=first.timing_cache)
        assert first.timing_cache
        assert (again.timing_cache, again.warnings) == (first.timing_cache, [])
    with tensorrt(version, compute_capability="7.2") as library:
        other = build_engine(library, graph.SerializeToString(), BuildSettings("fp16"), timing_cache=first.timing_cache)
        assert other.timing_cache not in (None, b"", first.timing_cache)
        assert any("another version or device" in text for text in other.warnings)


def test_rtx_has_no_timing_cache():
    with tensorrt(RTX) as library:
        assert build(library, RTX, tensorrt_graphs.head()).timing_cache is None


@pytest.mark.parametrize("version", EVERY)
def test_progress_is_told(version):
    told = []
    with tensorrt(version) as library:
        data = tensorrt_graphs.half().SerializeToString()
        settings = settings_for(version, precision="fp16")
        build_engine(library, data, settings, on_progress=lambda *one: told.append(one))
    assert told[:2] == [("reading the graph", 0, 1), ("building", 0, 1)]
    assert told[-1] == ("building", 1, 1)
    monitored = [done for phase, done, _ in told if phase == "Building engine"]
    assert monitored == ([] if version in OLD else [0, 1, 2, 3, 3])


@pytest.mark.parametrize("version", [version for version in EVERY if version not in OLD])
@pytest.mark.parametrize("failure", [KeyboardInterrupt, CoopexportError("no room left")])
def test_whoever_follows_progress_can_stop_the_build(version, failure):
    """An exception that reached the builder's own thread would end the process."""

    def stop(phase, done, _steps):
        if (phase, done) == ("Building engine", 1):
            raise failure

    with tensorrt(version) as library:
        data = tensorrt_graphs.half().SerializeToString()
        with pytest.raises(failure if isinstance(failure, type) else type(failure)):
            build_engine(library, data, settings_for(version, precision="fp16"), on_progress=stop)
        assert any("cancelled" in text for text in library.errors())


@pytest.mark.parametrize("version", EVERY)
def test_what_the_builder_says_is_passed_on(version, monkeypatch):
    with tensorrt(version) as library:
        module = library.module
        monkeypatch.setattr(module.IBuilderConfig, "add_optimization_profile", lambda self, given: 0)
        with pytest.raises(CoopexportError, match=r"built no engine: .*no optimization profile has been defined"):
            build(library, version, dynamic_head(version))


@pytest.mark.parametrize(
    ("data", "version"),
    [
        (b"ftrt" + bytes(20) + bytes([10, 3, 0, 30]) + bytes(36), "10.3.0.30"),
        (b"ftrt" + bytes(20) + bytes([10, 4, 0, 30]) + bytes(36), "10.3.0"),
        (b"ftrt" + bytes(20) + bytes(40), "10.3.0"),
        (b"something else", "10.3.0"),
    ],
)
def test_a_header_completes_the_version_and_does_not_replace_it(monkeypatch, data, version):
    with tensorrt("10.3") as library:
        monkeypatch.setattr(library.module.Builder, "build_serialized_network", lambda *_given: data)
        assert build(library, "10.3", tensorrt_graphs.half()).version == version
