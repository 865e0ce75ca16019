"""The soak test in small: streams that are left at any moment while an endpoint dies and returns. `make soak` is the
same with a thousand of them for as long as one likes.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks.soak import DYING, Plan, Soaked, soak
from benchmarks.stream_client import Seen

PLAN = Plan(seconds=5, streams=100, chunks_per_second=1500, dying_every_seconds=2)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
async def test_streams_while_an_endpoint_dies_and_returns(tmp_path: Path) -> None:
    result = await soak(PLAN, tmp_path)
    assert result.problems == []
    assert result.ends["whole"] > 50
    assert result.ends["left"] > 5
    assert result.ends["broken"] > 5
    assert result.deaths


@pytest.mark.parametrize(
    "seen",
    [
        Seen("wrong", DYING, "chunks of somebody else's stream", 0.0, 15.0),
        Seen("refused", "", "502", 0.0, 15.0),
        Seen("broken", "backend-2", "", 0.0, 15.0),
        Seen("broken", DYING, "", 0.0, 5.0),
        Seen("broken", DYING, "", 11.0, 15.0),
    ],
    ids=["mixed up", "refused", "at another endpoint", "before it died", "begun when it was dead"],
)
def test_what_may_not_be_is_a_problem(seen: Seen) -> None:
    result = Soaked(PLAN)
    result.deaths.append((10.0, 20.0))
    result.note(Seen("broken", DYING, "", 0.0, 11.0))
    assert result.problems == []
    result.note(seen)
    assert len(result.problems) == 1
