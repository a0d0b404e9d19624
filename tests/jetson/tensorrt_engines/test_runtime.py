"""Engines loaded and run: the numbers are ONNX Runtime's own, and memory is used as CUDA would have it."""

import numpy as np
import pytest
import tensorrt_graphs
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tensorrt_case import RTX, build, device_memory, symbols_of, tensorrt
from tensorrt_doubles.installing import VERSIONS
from tensorrt_graphs import expected, images

from jetson.cuda import pycuda_memory as cuda_pycuda
from jetson.errors import CoopexportError
from jetson.tensorrt_engines.runtime import load_engine

EVERY = [*VERSIONS, RTX]


@pytest.fixture
def memory(monkeypatch):
    """Device memory that must be clean in the end."""
    with device_memory(monkeypatch) as found:
        yield found


@pytest.mark.parametrize("version", EVERY)
@pytest.mark.parametrize("batch", [1, "batch"])
def test_head_and_tail_compute_what_their_graphs_do(memory, version, batch):
    symbols = symbols_of(version)
    with tensorrt(version) as library:
        head, tail = tensorrt_graphs.head(batch, symbols), tensorrt_graphs.tail(batch, symbols)
        changes = {} if batch == 1 else {"batches": (1, 2, 4)}
        runners = [load_engine(library, build(library, version, graph, **changes).data) for graph in (head, tail)]
        for count in (1,) if batch == 1 else (3, 1, 4):
            inputs = [images(count, seed=count)]
            for graph, runner in zip((head, tail), runners, strict=True):
                outputs = runner(inputs)
                for found, wanted in zip(outputs, expected(graph, inputs), strict=True):
                    np.testing.assert_array_equal(found, wanted)
                    assert found.dtype == wanted.dtype
                inputs = outputs
        for runner in runners:
            runner.close()


@pytest.mark.parametrize("version", EVERY)
@pytest.mark.parametrize(
    ("graph", "precision"), [(tensorrt_graphs.half(), "fp16"), (tensorrt_graphs.quantised(mixed=True), "int8")]
)
def test_lower_precisions_compute_what_their_graphs_do(memory, version, graph, precision):
    with tensorrt(version) as library:
        runner = load_engine(library, build(library, version, graph, precision=precision).data)
        np.testing.assert_array_equal(runner([images(1)])[0], expected(graph, [images(1)])[0])
        runner.close()


@pytest.mark.parametrize("version", EVERY)
def test_what_goes_in_and_out_is_told(memory, version):
    with tensorrt(version) as library:
        graph = tensorrt_graphs.head("batch", symbols_of(version))
        runner = load_engine(library, build(library, version, graph, batches=(1, 2, 4)).data)
        assert [str(end) for end in runner.inputs] == ["'images' (float32, ?x3x6x6)"]
        dtype = "int32" if version == "8.2" else "uint8"
        assert [end.to_json() for end in runner.outputs] == [{"name": "wire", "dtype": dtype, "shape": [-1, 4, 6, 6]}]
        assert runner.memory_how == "PyCUDA"
        runner.close()


@pytest.mark.parametrize("version", EVERY)
@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ([images(1).astype(np.float64)], r"takes 'images' \(float32, \?x3x6x6\) of batch 1 to 4, got float64"),
        ([images(5)], r"of batch 1 to 4, got float32 of shape \(5, 3, 6, 6\)"),
        ([images(1)[:, :2]], r"of shape \(1, 2, 6, 6\)"),
        ([images(1)[0]], r"of shape \(3, 6, 6\)"),
        ([], "takes 1 inputs, got 0"),
        ([images(1), images(1)], "takes 1 inputs, got 2"),
    ],
)
def test_wrong_arrays_are_refused_and_the_next_run_works(memory, version, wrong, said):
    graph = tensorrt_graphs.head("batch", symbols_of(version))
    with tensorrt(version) as library:
        runner = load_engine(library, build(library, version, graph, batches=(1, 2, 4)).data)
        with pytest.raises(CoopexportError, match=said):
            runner(wrong)
        np.testing.assert_array_equal(runner([images(2)])[0], expected(graph, [images(2)])[0])
        runner.close()


@pytest.mark.parametrize("version", EVERY)
def test_arrays_in_any_memory_order_are_taken(memory, version):
    graph = tensorrt_graphs.head(symbols=symbols_of(version))
    strided = np.asfortranarray(images(1))
    with tensorrt(version) as library:
        runner = load_engine(library, build(library, version, graph).data)
        np.testing.assert_array_equal(runner([strided])[0], expected(graph, [images(1)])[0])
        runner.close()


@pytest.mark.parametrize("version", EVERY)
def test_a_run_that_fails_says_why_and_the_next_one_works(memory, version, monkeypatch):
    graph = tensorrt_graphs.head(symbols=symbols_of(version))
    with tensorrt(version) as library:
        runner = load_engine(library, build(library, version, graph).data)
        world = library.module._world

        def fail(*_given):
            world.log("ERROR", "IExecutionContext::enqueueV3: Error Code 1: Cuda Runtime (an illegal memory access)")
            return False

        with monkeypatch.context() as patched:
            for name in ("execute_v2", "execute_async_v3"):
                if hasattr(library.module.IExecutionContext, name):
                    patched.setattr(library.module.IExecutionContext, name, fail)
            for _ in range(2):
                with pytest.raises(
                    CoopexportError, match=r"failed to run the engine: .*an illegal memory access"
                ) as one:
                    runner([images(1)])
                # Of this run alone; and no copy waits that would read an array which is gone by then.
                assert str(one.value).count("illegal memory access") == 1
                assert not any(memory.streams.values())
        np.testing.assert_array_equal(runner([images(1)])[0], expected(graph, [images(1)])[0])
        runner.close()


@pytest.mark.parametrize("version", EVERY)
def test_results_are_the_callers_own(memory, version):
    graph = tensorrt_graphs.head(symbols=symbols_of(version))
    with tensorrt(version) as library:
        runner = load_engine(library, build(library, version, graph).data)
        (first,) = runner([images(1, seed=1)])
        kept = first.copy()
        runner([images(1, seed=2)])
        runner.close()
        np.testing.assert_array_equal(first, kept)


@pytest.mark.parametrize("version", EVERY)
def test_a_closed_engine_is_closed_once_and_not_run(memory, version):
    with tensorrt(version) as library:
        data = build(library, version, tensorrt_graphs.head(symbols=symbols_of(version))).data
        runner = load_engine(library, data)
        runner.close()
        runner.close()
        with pytest.raises(CoopexportError, match="closed"):
            runner([images(1)])


PLANTED_MS = {"in": 0.25, "run": 2.0, "out": 0.5}


@pytest.mark.parametrize("version", EVERY)
def test_a_traced_run_tells_transfers_compute_and_enqueueing_apart(memory, version):
    graph = tensorrt_graphs.head(symbols=symbols_of(version))
    with tensorrt(version) as library:
        runner = load_engine(library, build(library, version, graph).data)
        runner([images(1)])
        assert runner.gpu_times() is None
        runner.trace()
        assert runner.gpu_times() is None
        memory.durations_ms = PLANTED_MS
        outputs = runner([images(1)])
        np.testing.assert_array_equal(outputs[0], expected(graph, [images(1)])[0])
        times = runner.gpu_times()
        assert times[:3] == (0.25, 2.0, 0.5)
        # Up to 8.4 the call that runs an engine waits for it.
        assert (times.enqueue is None) == (not hasattr(library.module.IExecutionContext, "execute_async_v3"))
        assert times.enqueue is None or 0 < times.enqueue < 1000
        with pytest.raises(CoopexportError):
            runner([images(1)[:, :2]])
        runner([images(1)])
        assert runner.gpu_times()[:3] == (0.25, 2.0, 0.5)
        runner.close()
        assert runner.gpu_times() is None


def test_a_run_that_fails_leaves_no_times(memory, monkeypatch):
    with tensorrt("10.3") as library:
        runner = load_engine(library, build(library, "10.3", tensorrt_graphs.head()).data)
        runner.trace()
        runner([images(1)])
        with monkeypatch.context() as patched:
            patched.setattr(library.module.IExecutionContext, "execute_async_v3", lambda *_: False)
            with pytest.raises(CoopexportError, match="failed to run"):
                runner([images(1)])
        assert runner.gpu_times() is None
        runner.close()


def test_memory_of_the_callers_stays_the_callers(memory):
    with tensorrt("10.3") as library:
        data = build(library, "10.3", tensorrt_graphs.head()).data
        shared = cuda_pycuda.open_memory()
        for _ in range(2):
            runner = load_engine(library, data, shared)
            runner([images(1)])
            runner.close()
            assert not memory.live
        shared.close()


@pytest.mark.parametrize("version", EVERY)
def test_when_memory_runs_out_what_was_taken_is_given_back(memory, version):
    graph = tensorrt_graphs.head(symbols=symbols_of(version))
    memory.limit_bytes = images(1).nbytes + 10
    with tensorrt(version) as library:
        data = build(library, version, graph).data
        with pytest.raises(CoopexportError, match=r"CUDA says: .*out of memory"):
            load_engine(library, data)


@pytest.mark.parametrize("version", VERSIONS)
def test_an_engine_of_another_version_or_gpu_is_refused(memory, version):
    graph = tensorrt_graphs.half()
    with tensorrt(version) as library:
        data = build(library, version, graph, precision="fp16").data
        changed = bytearray(data)
        changed[8 if data[:4] == b"ptrt" else 25] ^= 1
        said = r"does not take this engine: .*(not compatible with this version|Version tag does not match)"
        with pytest.raises(CoopexportError, match=said):
            load_engine(library, bytes(changed))
    other = pytest.raises(CoopexportError, match=r"expecting compute 7\.2 got compute 8\.7")
    with tensorrt(version, compute_capability="7.2") as library, other:
        load_engine(library, data)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=300))
def test_no_engine_at_all_is_refused_in_one_line(memory, data):
    with tensorrt("10.3") as library, pytest.raises(CoopexportError, match="does not take this engine") as refusal:
        load_engine(library, data)
    assert len(str(refusal.value).splitlines()) == 1


def test_an_engine_for_the_dla_is_loaded_on_its_core(memory):
    with tensorrt("10.3", dla_cores=2) as library:
        data = build(library, "10.3", tensorrt_graphs.quantised(), precision="int8", dla_core=1).data
        runner = load_engine(library, data, dla_core=1)
        assert runner._runtime.DLA_core == 1
        runner.close()


@pytest.mark.parametrize("version", EVERY)
def test_ends_come_in_the_order_that_is_asked_for(memory, version):
    nodes = [tensorrt_graphs.node("Sub", ["a", "b"], ["d"]), tensorrt_graphs.node("Add", ["a", "b"], ["s"])]
    ends = [[(name, 1, ["batch", 3]) for name in names] for names in ("ab", "ds")]
    graph = tensorrt_graphs.model(nodes, *ends)
    one, other = np.full((2, 3), 5, np.float32), np.full((2, 3), 2, np.float32)
    with tensorrt(version) as library:
        data = build(library, version, graph, batches=(1, 1, 2)).data
        runner = load_engine(library, data, input_names=["b", "a"], output_names=["s", "d"])
        assert [end.name for end in runner.inputs + runner.outputs] == ["b", "a", "s", "d"]
        assert [found[0, 0] for found in runner([other, one])] == [7, 3]
        with pytest.raises(CoopexportError, match=r"different batch sizes are given: \[1, 2\]"):
            runner([other[:1], one])
        runner.close()
        with pytest.raises(CoopexportError, match="the engine has the tensors a, b, expected a, c"):
            load_engine(library, data, input_names=["a", "c"])
