"""The workspace follows the memory that is free, and a build that cannot fit is refused with the numbers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jetson.agent.item_build import within_memory
from jetson.device.memory import Memory
from jetson.engines.build_settings import BuildSettings
from jetson.errors import CoopexportError

MEBIBYTE = 1 << 20


@given(st.integers(0, 64000), st.integers(1, 600), st.none() | st.integers(1, 8000))
def test_the_workspace_fits_or_the_build_is_refused(free: int, graph: int, wanted: int | None) -> None:
    memory = Memory(64000 * MEBIBYTE, free * MEBIBYTE, None)
    settings = BuildSettings(workspace_bytes=None if wanted is None else wanted * MEBIBYTE)
    need = 432 + 4 * graph
    if free < need:
        with pytest.raises(CoopexportError, match=f"{free:,} MiB of memory are free and about {need:,} MiB are needed"):
            within_memory(settings, graph * MEBIBYTE, memory)
        return
    found = within_memory(settings, graph * MEBIBYTE, memory)
    assert found.workspace_bytes is not None
    assert found._replace(workspace_bytes=settings.workspace_bytes) == settings
    assert found.workspace_bytes % MEBIBYTE == 0
    assert found.workspace_bytes <= (wanted or 64000) * MEBIBYTE
    # Half of what is left after libraries and weights stays free.
    assert 2 * found.workspace_bytes <= memory.available_bytes - 400 * MEBIBYTE - 4 * graph * MEBIBYTE
