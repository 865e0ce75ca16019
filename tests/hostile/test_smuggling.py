"""Requests that two programs could read as different requests: each is refused, or read in the one way there is.

Whatever is sent, the endpoint gets at most the one request that was meant, and nothing that stood in a body.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.fakes import FakeServer
from tests.running import CHAT_BODY, RunningGateway, chat_body, raw_client, request, wired

BODY = chat_body()
HIDDEN = request(chat_body(model="smuggled"))
CHUNKED = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)


def head(*lines: bytes) -> bytes:
    return b"\r\n".join((b"POST /v1/chat/completions HTTP/1.1", b"host: balancer", *lines)) + b"\r\n\r\n"


SHAPES = {
    "CL.TE": head(b"content-length: %d" % len(CHUNKED), b"transfer-encoding: chunked") + CHUNKED + HIDDEN,
    "TE.CL": head(b"transfer-encoding: chunked", b"content-length: 4") + CHUNKED + HIDDEN,
    "two lengths": head(b"content-length: %d" % len(BODY), b"content-length: 0") + BODY + HIDDEN,
    "a list of lengths": head(b"content-length: %d, 0" % len(BODY)) + BODY + HIDDEN,
    "a length with a sign": head(b"content-length: +%d" % len(BODY)) + BODY + HIDDEN,
    "a negative length": head(b"content-length: -1") + BODY + HIDDEN,
    "a length in hexadecimal": head(b"content-length: 0x%x" % len(BODY)) + BODY + HIDDEN,
    "a length beyond all numbers": head(b"content-length: " + b"9" * 40) + BODY + HIDDEN,
    "a blank before the colon": head(b"transfer-encoding : chunked", b"content-length: 0") + CHUNKED + HIDDEN,
    "a folded line": head(b"transfer-encoding:\r\n chunked", b"content-length: 4") + CHUNKED + HIDDEN,
    "not quite chunked": head(b"transfer-encoding: xchunked", b"content-length: 4") + CHUNKED + HIDDEN,
    "chunked, then identity": head(b"transfer-encoding: chunked, identity") + CHUNKED + HIDDEN,
    "chunked twice": head(b"transfer-encoding: chunked", b"transfer-encoding: chunked") + CHUNKED + HIDDEN,
    "identity": head(b"transfer-encoding: identity", b"content-length: %d" % len(BODY)) + BODY + HIDDEN,
    "a chunk with a sign": head(b"transfer-encoding: chunked") + b"+%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY) + HIDDEN,
    "a chunk beyond all numbers": head(b"transfer-encoding: chunked") + b"f" * 20 + b"\r\n" + BODY + HIDDEN,
    "a chunk that is longer than it says": head(b"transfer-encoding: chunked")
    + b"2\r\n"
    + BODY
    + b"\r\n0\r\n\r\n"
    + HIDDEN,
    "a nameless field": head(b": chunked", b"content-length: %d" % len(BODY)) + BODY + HIDDEN,
    "a zero byte": head(b"x-a: \x00", b"content-length: %d" % len(BODY)) + BODY + HIDDEN,
    "a bare carriage return": head(b"x-a: b\rtransfer-encoding: chunked", b"content-length: 0") + CHUNKED + HIDDEN,
}


@pytest.fixture
async def fake() -> AsyncIterator[FakeServer]:
    async with FakeServer() as server:
        yield server


@pytest.mark.parametrize("shape", SHAPES)
async def test_nothing_is_smuggled(fake: FakeServer, shape: str) -> None:
    async with RunningGateway(wired(fake)) as gateway, raw_client(gateway.url) as client:
        client.send(SHAPES[shape])
        answers = b""
        try:
            async with asyncio.timeout(3):
                answers = await client.rest()
        except TimeoutError:
            pytest.fail("neither refused nor closed")
        assert answers.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 413 ")), answers[:200]
        assert answers.count(b"HTTP/1.1 ") == 1, "one answer, and the connection is closed"
        assert not fake.stats.requests
        assert (await gateway.client.post("/v1/chat/completions", json=CHAT_BODY)).status_code == 200
