"""The study of the stream: its page says what was measured, against its bounds."""

import re

import pytest

from benchmarks.studies import stream


def test_the_page_holds_each_size_against_its_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("_ROUNDS", 1), ("_REQUESTS", 5), ("_RATE_S", 0.3), ("DEVICES", 2), ("SIZES", (10, 5_000))):
        monkeypatch.setattr(stream, name, value)
    page = stream.make_page()
    rows = [line.strip("| ").split(" | ") for line in page.splitlines() if re.match(r"\| [\d,]+ \|", line)]
    assert [row[0] for row in rows] == ["10", "5,000"]
    for _, bare_us, stream_us, ratio, holds in rows:
        assert float(ratio) == pytest.approx(float(stream_us) / float(bare_us), rel=0.2)
        if abs(float(ratio) - stream.WANTED_RATIO) > 0.01:  # beyond what rounding hides
            assert (holds == "yes") == (float(ratio) < stream.WANTED_RATIO)
    assert re.search(r"[\d,]+ a second, p99 [\d.]+ ms", page)
