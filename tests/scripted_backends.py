"""Backends for the control plane's client without a network: each host answers as its script says, or hangs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx

from balancer.core.errors import ConnectError
from balancer.upstream.control import ControlClient
from tests.stand_in import StandIn


def models(*ids: str) -> httpx.Response:
    """A list of models as OpenAI writes it."""
    return httpx.Response(200, json={"object": "list", "data": [{"id": each, "owned_by": "test"} for each in ids]})


CHUNK_BYTES = 65536


class Endless(httpx.AsyncByteStream):
    """A body without an end; `read` counts what was taken of it, in bytes."""

    def __init__(self) -> None:
        self.read = 0

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        self.read += CHUNK_BYTES
        return b" " * CHUNK_BYTES


class ScriptedBackends:
    """What `answers` holds for "host:port" is answered or raised; hosts in `hanging` say nothing until released."""

    def __init__(self, **control: Any) -> None:
        self.answers: dict[str, httpx.Response | Exception] = {}
        self.hanging: dict[str, asyncio.Event] = {}
        self.asked: list[str] = []
        self.under_way = self.most_under_way = 0
        self.control = ControlClient(network=StandIn(self._answer), **control)

    def hang(self, *places: str) -> None:
        """Let these places say nothing from now on."""
        for place in places:
            self.hanging[place] = asyncio.Event()

    def release(self, *places: str) -> None:
        """Let them answer, all of them if none is named."""
        for place in places or tuple(self.hanging):
            self.hanging.pop(place).set()

    async def _answer(self, request: httpx.Request) -> httpx.Response:
        place = f"{request.url.host}:{request.url.port or 80}"
        assert request.method == "GET" and request.url.path.endswith("/models")
        self.asked.append(place)
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            await (self.hanging[place].wait() if place in self.hanging else asyncio.sleep(0))
        finally:
            self.under_way -= 1
        answer = self.answers.get(place, ConnectError("connection refused"))
        if isinstance(answer, Exception):
            raise answer
        return answer
