"""The codec benchmark: real features of a small network, honest rows, and bounds that are computed."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from benchmarks.studies import codecs
from benchmarks.studies.codecs_page import benchmark_cases
from benchmarks.studies.codecs_page import measure as measuring
from benchmarks.studies.codecs_page.benchmark_cases import DEPTHS, channel_percentiles, dequantise, quantise
from benchmarks.studies.codecs_page.bounds import bounds, excess_bytes, front, ours
from benchmarks.studies.codecs_page.coders import Coder, Missing, own_coders
from benchmarks.studies.codecs_page.measure import Case, Measured, NotMeasured, measure_coders
from benchmarks.studies.codecs_page.network import NetworkRecipe
from benchmarks.studies.codecs_page.page import Results, bound_table, page
from benchmarks.studies.codecs_page.peers import peer_coders, tiles, untile
from calibration.codecs.entropy_tables import fit_symbol_model
from jetson.wire import rans

TINY = NetworkRecipe(
    widths=(8, 8, 8, 8, 8, 8, 8, 16, 16, 16, 16, 16, 16), train_count=64, evaluation_count=20, epochs=1
)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def results(cache: Path) -> Iterator[Results]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(benchmark_cases, "FITTING_IMAGES", 48)
        yield codecs.run(TINY, cache, samples=4, depths=DEPTHS[:2], widths=(8, 2))


def row(coder: str, size: int = 100, us: float = 10.0, own: bool = False) -> Measured:
    return Measured(coder, own, "", (size, size), us / 2, us / 2)


def case(*rows: Measured | NotMeasured, depth: int = 0, ideal: float = 90.0) -> Case:
    return Case(DEPTHS[depth], 4, 2048, 3, (ideal, ideal), 0.99, 0.99, rows)


GOOD = (row("rans, C", 100, 10, True), row("rans-context, C", 90, 12, True))


def test_every_coder_has_a_row_with_bytes_and_times_or_a_reason(results: Results) -> None:
    assert [one.name for one in results.cases] == [
        "conv1_2, 8 bits",
        "conv1_2, 2 bits",
        "pool1, 8 bits",
        "pool1, 2 bits",
    ]
    for one in results.cases:
        names = {row.coder for row in one.rows}
        assert {"rans, C", "rans-context, C", "rans, Python", "zlib-huffman", "raw", "zlib 6", "PNG"} <= names
        assert {"zstd 1", "zstd 3", "zstd 19", "lz4", "brotli 11", "WebP lossless", "JPEG-LS", "JPEG XL 7"} <= names
        for measured in one.measured:
            assert len(measured.sizes_bytes) == 4
            assert min(measured.sizes_bytes) > 0
            assert measured.encode_us > 0
            assert measured.decode_us > 0
        assert all("come back" not in row.reason for row in one.rows if isinstance(row, NotMeasured))


def test_the_symbols_are_those_of_the_network(results: Results) -> None:
    by_name = {one.name: one for one in results.cases}
    assert by_name["conv1_2, 8 bits"].symbols_per_sample == 8 * 32 * 32
    assert by_name["pool1, 2 bits"].symbols_per_sample == 8 * 16 * 16
    for cut in ("conv1_2", "pool1"):
        wide, narrow = by_name[f"{cut}, 8 bits"], by_name[f"{cut}, 2 bits"]
        assert sum(narrow.cross_entropies_bytes) < 0.5 * sum(wide.cross_entropies_bytes)
        assert wide.reference_top1 == narrow.reference_top1
        assert 0 <= wide.top1 <= 1


def test_raw_messages_have_the_size_that_they_must_have(results: Results) -> None:
    sizes = {one.name: next(row for row in one.measured if row.coder == "raw").sizes_bytes for one in results.cases}
    assert sizes["pool1, 8 bits"] == (2048 + 5,) * 4
    assert sizes["pool1, 2 bits"] == (512 + 5,) * 4


def test_the_page_has_a_table_per_cut_and_one_row_per_coder_and_bound(results: Results) -> None:
    text = page(results)
    assert "### conv1_2: 8,192 symbols" in text
    assert text.count("\n| raw |") == 2
    for bound in bounds(results.cases):
        assert len(bound.cases) == 4
        assert f"\n| {bound.text} | 4 |" in text


def test_a_trained_network_is_kept(results: Results, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (file,) = cache.iterdir()
    assert file.suffix == ".safetensors"
    monkeypatch.setattr("benchmarks.studies.codecs_page.network.fit", None)
    monkeypatch.setattr(benchmark_cases, "FITTING_IMAGES", 48)
    again = codecs.run(TINY, cache, samples=1, depths=DEPTHS[1:2], widths=(8,))
    wanted = next(one for one in results.cases if one.name == "pool1, 8 bits")
    assert again.cases[0].cross_entropies_bytes == wanted.cross_entropies_bytes[:1]


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("zstandard", "lz4", "lz4.block", "brotli", "imagecodecs"):
        monkeypatch.setitem(sys.modules, name, None)
    made = peer_coders((1, 4, 8, 8), 4)
    missing = {one.name: one.reason for one in made if isinstance(one, Missing)}
    assert missing == dict.fromkeys(
        ("zstd 1", "zstd 3", "zstd 19", "lz4", "brotli 5", "brotli 11", "JPEG-LS", "JPEG XL 3", "JPEG XL 7"),
        "not installed",
    )
    assert {"zlib 6", "PNG", "WebP lossless"} <= {one.name for one in made if isinstance(one, Coder)}
    text = page(Results({"python": "", "processor": "", "system": "", "load_average": 0}, {}, "c", TINY, 2, (
        case(*GOOD, NotMeasured("lz4", "not installed")),
    )))  # fmt: skip
    assert "| lz4 | not installed | – |" in text


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("shape", [(1, 8, 4, 6), (1, 6, 5, 5), (1, 7, 2, 2)])
def test_every_peer_gives_back_what_went_in(shape: tuple[int, ...], bits: int) -> None:
    sample = np.random.default_rng(0).integers(0, 1 << bits, shape, dtype=np.uint8)
    coders = [one for one in peer_coders(shape, bits) if isinstance(one, Coder)]
    assert len(coders) >= (5 if bits < 8 else 3)
    for coder in coders:
        np.testing.assert_array_equal(coder.decode(coder.encode(sample)), sample, err_msg=f"{coder.name} {coder.form}")


def test_tiles_are_near_to_square() -> None:
    sample = np.arange(12 * 2 * 3, dtype=np.uint8).reshape(1, 12, 2, 3)
    picture = tiles(sample)
    assert picture.shape == (3 * 2, 4 * 3)
    assert picture[:2, :3].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert picture[:2, 3:6].tolist() == [[6, 7, 8], [9, 10, 11]]
    np.testing.assert_array_equal(untile(picture, sample.shape), sample)


def test_a_coder_that_fails_or_lies_has_no_numbers() -> None:
    samples = [np.full((1, 2, 2, 2), value, np.uint8) for value in (1, 2)]
    honest = Coder("honest", False, "", lambda sample: sample.tobytes(), lambda coded: np.frombuffer(coded, np.uint8).reshape(1, 2, 2, 2))  # fmt: skip  # noqa: E501
    lossy = dataclasses.replace(honest, name="lossy", decode=lambda coded: samples[0])

    def refuse(sample: np.ndarray) -> bytes:
        raise ValueError("no")

    rows = measure_coders(
        [honest, lossy, dataclasses.replace(honest, name="failing", encode=refuse), Missing("gone", "why")], samples
    )
    assert isinstance(rows[0], Measured)
    assert rows[0].sizes_bytes == (8, 8)
    assert rows[1:] == [
        NotMeasured("lossy", "sample 1 does not come back as it was"),
        NotMeasured("failing", "ValueError: no"),
        NotMeasured("gone", "why"),
    ]


def test_without_a_compiler_c_has_a_reason_and_python_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    rans._coder.cache_clear()
    monkeypatch.setenv("COOPEXPORT_RANS", "python")
    model = fit_symbol_model(np.zeros((4, 2, 3, 3), np.uint8), 4, False)
    made = own_coders((1, 2, 3, 3), 4, model, model)
    names = {one.name: one.reason for one in made if isinstance(one, Missing)}
    assert names == dict.fromkeys(("rans, C", "rans-context, C"), "COOPEXPORT_RANS=python asks for it")
    assert {"rans, Python", "rans-context, Python"} <= {one.name for one in made if isinstance(one, Coder)}


def test_the_smaller_form_counts() -> None:
    packed, plain = (Measured("zlib 6", False, form, (size,), 1, 1) for form, size in (("packed", 5), ("bytes", 6)))
    assert case(plain, packed).measured == (packed,)


def misses(*cases: Case) -> list[tuple[str, ...]]:
    """Return for each bound the cases that miss it; of cases that were judged."""
    found = bounds(cases)
    assert all(one.holds is (not one.missed) for one in found if one.cases)
    return [one.missed for one in found]


def test_the_entropy_bound_is_judged_message_by_message() -> None:
    one = case(row("rans, C", 107, own=True))
    assert excess_bytes(one, one.measured[0]) == pytest.approx(107 - (1.02 * 90 + 16))
    assert misses(one)[0] == ()
    assert misses(case(Measured("rans, C", True, "", (60, 108), 1, 1)))[0] == ("conv1_2, 4 bits",)


def test_the_front_is_judged_by_bytes_and_time() -> None:
    assert misses(case(*GOOD, row("fast", 200, 1), row("small", 80, 100)))[1] == ()
    one = case(*GOOD, row("better", 89, 9))
    assert front(one) == (row("better", 89, 9),)
    assert misses(one)[1] == ("conv1_2, 4 bits",)


def test_the_shallow_bound_leaves_out_what_is_ten_times_slower() -> None:
    small = row("small", 89, 130)
    assert misses(case(*GOOD, small))[2] == ()
    faster = dataclasses.replace(small, encode_us=50, decode_us=50)
    assert misses(case(*GOOD, faster))[2] == ("conv1_2, 4 bits",)
    assert bounds([case(*GOOD, faster, depth=3)])[2].holds is None, "no shallow cut"


def test_python_has_the_bytes_of_c_or_misses_the_bound() -> None:
    python = (row("rans, Python", 100, 900, True), row("rans-context, Python", 90, 900, True))
    assert misses(case(*GOOD, *python))[3] == ()
    assert misses(case(*GOOD, python[0], row("rans-context, Python", 91, 900, True)))[3] == ("conv1_2, 4 bits",)
    assert misses(case(*GOOD, python[0]))[3] == ("conv1_2, 4 bits",)


def test_without_c_nothing_is_judged() -> None:
    found = bounds([case(*GOOD), case(row("raw", own=True))])
    assert [one.holds for one in found] == [None] * 4
    assert [line.split(" | ")[-1] for line in bound_table(found).splitlines()[2:]] == ["not judged |"] * 4


def test_the_own_codec_is_the_smaller_one() -> None:
    assert ours(case(*GOOD)) == GOOD[1]
    assert ours(case(row("zlib-huffman", own=True))) is None


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_quantisation_keeps_zero_and_saturates(bits: int) -> None:
    values = np.abs(np.random.default_rng(0).normal(0, 1, (50, 3, 4, 4))).astype(np.float32)
    values[:, 1] = 0
    values[:, 2] *= 100
    high = channel_percentiles(values, 99.0)
    symbols = quantise(values, high, bits)
    assert high.shape == (3, 1, 1)
    assert symbols[:, 1].max() == 0
    assert symbols[:, 0].max() == symbols[:, 2].max() == (1 << bits) - 1
    inside = values <= high
    step = high / ((1 << bits) - 1)
    assert (np.abs(dequantise(symbols, high, bits) - values) <= 0.5001 * step)[inside].all()


def test_wrong_arguments_are_refused(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "measure", None)
    with pytest.raises(SystemExit):
        codecs.main(["--samples", "0"])
    assert "the number of samples must be 1 to 500" in capsys.readouterr().err
