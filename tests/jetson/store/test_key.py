"""Everything that would give another engine gives another key, and a miss names the field that differs."""

from __future__ import annotations

import json
from typing import Any

import pytest
from engine_examples import DESKTOP, ORIN, rtx_identity, tensorrt_identity
from hypothesis import given
from hypothesis import strategies as st

from jetson.engines.build_settings import BuildSettings
from jetson.store.key import EngineKey, describe_miss, differences, engine_key, key_from_json, key_of

TEXT = st.text("abcdefghij0123456789.", min_size=1, max_size=8)
SETTINGS = st.builds(
    BuildSettings,
    precision=st.sampled_from(["fp32", "fp16", "int8"]),
    batches=st.sampled_from([(1, 1, 1), (1, 4, 8), (2, 2, 2)]),
    compute_capabilities=st.sampled_from([(), ("8.6",), ("8.9",), ("8.6", "8.9")]),
    workspace_bytes=st.sampled_from([None, 1 << 28, 1 << 30]),
    dla_core=st.sampled_from([None, 0, 1]),
    gpu_fallback=st.booleans(),
    optimization_level=st.sampled_from([None, 0, 3, 5]),
    tf32=st.booleans(),
)
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "target_file_sha256": st.text("0123456789abcdef", min_size=64, max_size=64),
    "backend": st.sampled_from(["tensorrt", "tensorrt-rtx", "onnxruntime"]),
    "backend_version": TEXT,
    "compute_capabilities": st.lists(TEXT, max_size=3).map(tuple),
    "platform": st.none() | TEXT,
    "device": st.none() | TEXT,
    "l4t": st.none() | TEXT,
    "cuda": st.none() | TEXT,
    "settings": SETTINGS,
    "builder": TEXT,
    "coopexport_version": TEXT,
}
KEYS = st.builds(EngineKey, **FIELDS)
# How the difference in a field is told.
WORDS = {
    "target_file_sha256": "another graph",
    "backend": "backend ",
    "backend_version": " here, engine built by ",
    "compute_capabilities": "SM ",
    "platform": "platform ",
    "device": "device ",
    "l4t": "L4T ",
    "cuda": "CUDA ",
    "builder": "builder ",
    "coopexport_version": "coopexport ",
}


def test_every_field_has_its_words() -> None:
    assert set(FIELDS) == set(EngineKey._fields) == set(WORDS) | {"settings"}


@given(KEYS)
def test_a_key_is_read_as_it_was_written(key: EngineKey) -> None:
    again = key_from_json(json.loads(json.dumps(key.to_json())))
    assert again == key
    assert again.digest == key.digest
    assert differences(key, again) == []


@given(KEYS, st.sampled_from(sorted(WORDS)), st.data())
def test_one_changed_field_is_another_key_and_is_named(key: EngineKey, field: str, data: st.DataObject) -> None:
    value = data.draw(FIELDS[field].filter(lambda value: value != getattr(key, field)))
    other = key._replace(**{field: value})
    assert other.digest != key.digest
    (said,) = differences(other, key)
    assert WORDS[field] in said
    assert said in describe_miss(other, [key])


@given(KEYS, st.sampled_from(BuildSettings._fields), st.data())
def test_one_changed_setting_is_named(key: EngineKey, field: str, data: st.DataObject) -> None:
    value = data.draw(
        SETTINGS.map(lambda settings: getattr(settings, field)).filter(
            lambda value: value != getattr(key.settings, field)
        )
    )
    other = key._replace(settings=key.settings._replace(**{field: value}))
    assert other.digest != key.digest
    (said,) = differences(other, key)
    assert said.startswith(f"{field} ")


@given(KEYS, st.lists(KEYS, min_size=1, max_size=4))
def test_the_nearest_one_is_explained(key: EngineKey, others: list[EngineKey]) -> None:
    near = key._replace(builder=key.builder + "x")
    others = [other for other in others if other != key]
    said = describe_miss(key, [*others, near])
    assert said.endswith(differences(key, near)[0]) or any(len(differences(key, other)) == 1 for other in others)
    assert describe_miss(key, []) == "the store holds no engine yet"


def test_of_the_same_graph_rather_than_of_the_same_machine() -> None:
    wanted = key_of(tensorrt_identity())
    same_graph = wanted._replace(backend_version="8.5.2.2", l4t="35.4", cuda="11.4", compute_capabilities=("7.2",))
    same_machine = wanted._replace(target_file_sha256="9" * 64)
    assert describe_miss(wanted, [same_machine, same_graph]) == (
        "the nearest of 2 stored engines differs: TensorRT 10.3.0.30 here, engine built by 8.5.2.2; "
        "SM 8.7 here, engine built for 7.2; L4T 36.4 here, engine built on 35.4; CUDA 12.6 here, engine built with 11.4"
    )
    assert describe_miss(wanted, [same_machine]) == (
        f"the one stored engine differs: it was built from another graph (SHA-256 {'9' * 12}..., wanted {'2' * 12}...)"
    )


def test_what_matters_for_classic_tensorrt() -> None:
    key = key_of(tensorrt_identity())
    assert key == engine_key("2" * 64, "tensorrt", BuildSettings("fp16"), ORIN, "tensorrt module", "0.1.0")
    assert (key.backend_version, key.compute_capabilities, key.platform) == ("10.3.0.30", ("8.7",), "Linux aarch64")
    assert (key.device, key.l4t, key.cuda) == (ORIN.board, "36.4", "12.6")
    desktop = DESKTOP._replace(backends={"tensorrt": "10.13.3.9"}, cuda="13.0")
    found = engine_key("2" * 64, "tensorrt", BuildSettings(), desktop, "tensorrt module", "0.1.0")
    assert (found.device, found.l4t) == (desktop.gpu, None)
    assert found == engine_key(
        "2" * 64, "tensorrt", BuildSettings(), desktop._replace(driver="590.0"), "tensorrt module", "0.1.0"
    )


@pytest.mark.parametrize("field", ["board", "chip", "l4t", "gpu", "compute_capability", "driver", "cuda"])
def test_an_engine_built_ahead_of_time_does_not_depend_on_the_gpu_here(field: str) -> None:
    identity = rtx_identity()
    elsewhere = identity._replace(machine=identity.machine._replace(**{field: "5"}))
    assert key_of(elsewhere) == key_of(identity)
    assert key_of(identity).compute_capabilities == ("8.9",)
    assert key_of(identity).platform == "Linux x86_64"


def test_an_onnx_file_is_the_same_everywhere() -> None:
    identity = rtx_identity(backend="onnxruntime", settings=BuildSettings())
    assert key_of(identity) == key_of(identity._replace(machine=ORIN))
    assert key_of(identity) != key_of(identity._replace(backend_version="1.0"))


@pytest.mark.parametrize("content", [None, [], {}, {"compute_capabilities": []}, {"settings": {}}])
def test_anything_else_is_no_key(content: Any) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        key_from_json(content)


@given(SETTINGS, SETTINGS)
def test_other_settings_are_another_key(one: BuildSettings, other: BuildSettings) -> None:
    keys = [key_of(tensorrt_identity(settings=settings)) for settings in (one, other)]
    assert [key.settings for key in keys] == [one, other]
    assert (keys[0].digest == keys[1].digest) == (one == other)
