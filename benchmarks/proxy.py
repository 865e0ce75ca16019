"""CPU time per request and per stream of the proxy process, the balancer beside the naive pass-through.

The proxy under test has one core for itself, backends and load generator another. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import statistics
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvloop

from benchmarks import backend
from benchmarks.balancer import QUOTAS_PERCENT, AccountingWrong, BalancerProgram, Served
from benchmarks.load import LoadError, Measured, request_bytes, run
from benchmarks.processes import Program, StartFailed, free_port


@dataclass(frozen=True, slots=True)
class Case:
    """One kind of load. `connections` 0: as many as were asked for."""

    name: str
    model: str
    connections: int = 0


CASES = (
    Case("JSON", backend.JSON),
    Case(f"stream of {backend.CHUNKS} chunks, one write", backend.BURST),
    Case(f"stream of {backend.CHUNKS} chunks, each written by itself", backend.CHUNKED),
    Case("JSON, one connection", backend.JSON, connections=1),
)
DIRECT, BALANCER, NAIVE = "none (direct)", "balancer", "Starlette + httpx"


@dataclass(slots=True)
class Subject:
    """Who is measured: a process that answers `/v1/chat/completions`, and all that was measured of it."""

    name: str
    program: Program
    client_token: str = "none"
    rounds: dict[Case, list[Measured]] = field(default_factory=dict)
    pss_bytes: dict[Case, int] = field(default_factory=dict)

    def measure(self, case: Case, connections: int, seconds: float) -> None:
        """One round of one case."""
        port = self.program.port
        request = request_bytes(port, case.model, self.client_token, stream=case.model != backend.JSON)
        measured = asyncio.run(
            run(port, request, case.connections or connections, seconds, self.program.cpu_seconds),
            loop_factory=uvloop.new_event_loop,
        )
        self.rounds.setdefault(case, []).append(measured)
        self.pss_bytes[case] = self.program.pss_bytes()

    def served(self) -> Served:
        """Everything it answered."""
        return sum((_served(case, each) for case, rounds in self.rounds.items() for each in rounds), Served())


def _served(case: Case, measured: Measured) -> Served:
    answered = measured.answered
    return Served(answered, answered * backend.PROMPT_TOKENS, answered * backend.COMPLETION_TOKENS[case.model])
