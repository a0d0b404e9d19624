"""What this room refuses says by its class what kind of problem it is, and by its fields where, and how to mend it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from calibration.codecs.search_file import encoding_path, read_encodings
from calibration.metrics.metric import score
from calibration.ranges.clip_methods import ClipSettings
from jetson.errors import InputError, StaleError


def test_an_encoding_that_was_not_searched_is_stale(tmp_path: Path) -> None:
    with pytest.raises(StaleError) as error:
        read_encodings(tmp_path, "conv4_1")
    assert error.value.layer == "conv4_1"
    assert error.value.path == str(encoding_path(tmp_path, "conv4_1"))
    assert error.value.fix == "make it with: coopexport search --layer conv4_1"


def test_a_setting_and_a_metric_of_the_users_that_fail_are_input() -> None:
    with pytest.raises(InputError):
        ClipSettings(percentile=50.0)
    with pytest.raises(InputError, match='metric "own" failed: ZeroDivisionError'):
        score(("own", lambda outputs, labels: 1 / 0), np.ones((2, 2)), np.zeros(2, np.int64))
