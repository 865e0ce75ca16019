"""The parser of answers and a second implementation of HTTP/1.1 side by side, and where the two part on purpose.

Where ours is stricter, the answer is one that no endpoint sends and two parties could frame differently; where it is
more lenient, the framing is not affected.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import h11

from tests.raw_server import chunked
from tests.upstream_fakes import Bench, FakeLoop, read_all

REFUSED = None


class Read(NamedTuple):
    """What was understood of an answer behind which the connection closed."""

    status: int
    body: bytes


def ours(data: bytes, step: int) -> Read | None:
    """What the balancer understands; None where it refuses, or finds the answer incomplete."""
    loop = FakeLoop()
    bench = Bench(loop)
    response = bench.start()
    bench.feed(*(data[at : at + step] for at in range(0, len(data), step)))
    if not bench.transport.aborted:
        bench.connection.eof_received()
    body, end = read_all(response)
    loop.close()
    return Read(response.status, body) if end == "complete" else REFUSED


def theirs(data: bytes) -> Read | None:
    """What h11 understands of the answer to a POST."""
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=64 * 1024)
    connection.send(h11.Request(method="POST", target="/", headers=[("host", "a"), ("content-length", "0")]))
    connection.send(h11.EndOfMessage())
    status, body = 0, b""
    try:
        connection.receive_data(data)
        connection.receive_data(b"")
        while True:
            found = connection.next_event()
            if isinstance(found, h11.Response):
                status = found.status_code
            elif isinstance(found, h11.Data):
                body += bytes(found.data)
            elif isinstance(found, h11.EndOfMessage):
                return Read(status, body)
            elif found is h11.NEED_DATA or found is h11.PAUSED or isinstance(found, h11.ConnectionClosed):
                return REFUSED
    except h11.RemoteProtocolError:
        return REFUSED


HEAD = b"HTTP/1.1 200 OK\r\n"
SIZED = HEAD + b"Content-Length: 2\r\n"
CODED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


class Difference(NamedTuple):
    """Where the two part: what it looks like, an example, whether it is ours that refuses."""

    pattern: bytes
    example: bytes
    ours_refuses: bool = True


DELIBERATE = {
    "the same length twice": Difference(
        rb"(?is)content-length:.*\n *content-length:", SIZED + b"Content-Length: 2\r\n\r\nok"
    ),
    "a list of equal lengths": Difference(rb"(?i)content-length:[^\r\n]*,", HEAD + b"Content-Length: 2, 2\r\n\r\nok"),
    "a length beside chunks": Difference(
        rb"(?is)(content-length:.*transfer-encoding:|transfer-encoding:.*content-length:)",
        SIZED + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(b"ok"),
    ),
    "folded lines": Difference(rb"\n[ \t]", SIZED + b"X: a\r\n b\r\n\r\nok"),
    "bare line feeds": Difference(rb"(?<!\r)\n", SIZED.replace(b"\r", b"") + b"\nok"),
    "control characters": Difference(rb"[\x01-\x08\x0b\x0c\x0e-\x1f\x7f]", SIZED + b"X: a\x01b\r\n\r\nok"),
    "versions that never were": Difference(
        rb"HTTP/(?!0\.9|1\.[01]|2\.0)\d\.\d", b"HTTP/1.2 200 OK\r\nContent-Length: 2\r\n\r\nok"
    ),
    "blanks behind a chunk size": Difference(rb"\n[0-9a-fA-F]+[ \t]", CODED + b"2 \r\nok\r\n0\r\n\r\n"),
    "odd chunk extensions": Difference(rb"\n[0-9a-fA-F]+;", CODED + b"2;\r\nok\r\n0\r\n\r\n"),
    "blank lines before the answer": Difference(rb"\A[\r\n]", b"\r\n" + SIZED + b"\r\nok", ours_refuses=False),
    "chunk sizes of over 20 digits": Difference(
        rb"\n0[0-9a-fA-F]{20}", CODED + b"0" * 30 + b"2\r\nok\r\n0\r\n\r\n", ours_refuses=False
    ),
    "control characters in the reason phrase": Difference(
        rb"(?:\A|\n)HTTP/\d\.\d \d\d\d[^\r\n]*[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]",
        SIZED.replace(b"OK", b"O\0K") + b"\r\nok",
        ours_refuses=False,
    ),
}


def allowed(data: bytes, *, ours_refuses: bool) -> bool:
    """Whether there is a reason for one of the two to refuse what the other takes."""
    reasons = (each for each in DELIBERATE.values() if each.ours_refuses == ours_refuses)
    return any(re.search(each.pattern, data) for each in reasons)
