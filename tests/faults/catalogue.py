"""Every way an answer can go wrong, each with what must come of it: once for an answer in one piece, once for a stream.

`Fault.whole` and `Fault.stream` are the ends; who has to find out about them is `test_matrix`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from balancer.core.endpoints import Provenance
from tests.faults.answers import (
    DONE,
    Making,
    Said,
    before_reading,
    closing,
    completion,
    dripping,
    endlessly,
    resetting,
    stalling,
    stream,
)
from tests.raw_server import chunked, resets


@dataclass(frozen=True, slots=True)
class End:
    """What must come of an attempt. `elsewhere`: another endpoint is asked if there is one. `status`, `code` and
    `error_class` are the client's and the metrics' if there is none; `code` None: the endpoint's own words are relayed.
    """

    outcome: str
    elsewhere: bool = True
    status: int = 502
    code: str | None = "upstream_error"
    error_class: str = "upstream"
    broken: bool = False  # after the client was given the beginning

    @property
    def blamed(self) -> bool:
        """Whether it counts as a failure of the endpoint."""
        return self.outcome in ("failed", "rejected")

    @property
    def silent(self) -> bool:
        """Whether it takes the endpoint's timeout to find out."""
        return self.error_class == "timeout"


PASSES = End("success", elsewhere=False, status=200, code=None, error_class="")
FAILS = End("failed")
SILENT = End("failed", status=504, code="upstream_timeout", error_class="timeout")
BREAKS = End("failed", elsewhere=False, status=200, broken=True)
STALLS = End("failed", elsewhere=False, status=200, error_class="timeout", broken=True)


def relayed(status: int, outcome: str, *, elsewhere: bool = True, error_class: str = "upstream") -> End:
    """The endpoint's own refusal, which the client gets where nobody else can help."""
    return End(outcome, elsewhere=elsewhere, status=status, code=None, error_class=error_class)


@dataclass(frozen=True, slots=True)
class Fault:
    """One way to go wrong."""

    name: str
    make: Making
    whole: End
    stream: End
    body: Said
    events: Said
    provenance: Provenance | None = Provenance.REPORTED  # of what passes; None: no usage is counted


CODING = b"Transfer-Encoding: chunked"
ANSWER, EVENTS = completion("Grüße aus Köln 🙂"), stream("Grüße ", "aus Köln 🙂")
LONG_ANSWER, LONG_EVENTS = completion("x" * 100_000), stream("x" * 100_000, "y")


def fault(name: str, make: Making, end: End, events_end: End | None = None, **fields: object) -> Fault:
    """A row with the same end for both, unless there are two."""
    values = {"body": ANSWER, "events": EVENTS, **fields}
    return Fault(name, make, end, events_end or end, **values)  # type: ignore[arg-type]


def line(text: bytes, *, name: str, end: End = FAILS) -> Fault:
    """A header line that does not belong there, beside a right length."""
    return fault(name, closing(lambda said: said.sized(text)), end)


def framed(*lines: bytes, name: str, end: End = FAILS, body: Callable[[Said], bytes] | None = None) -> Fault:
    """Header lines that frame the answer wrongly."""
    return fault(name, closing(lambda said: said.head(*lines) + (body(said) if body else said.whole)), end)


def no_answer() -> Iterator[Fault]:
    """Before, inside and instead of the head."""
    yield fault("closed when connected", before_reading(lambda writer: writer.close()), FAILS)
    yield fault("reset when connected", before_reading(resets), FAILS)
    yield fault("closed before the head", closing(lambda _: b""), FAILS)
    yield fault("reset before the head", resetting(lambda _: b""), FAILS)
    yield fault("silent before the head", stalling(lambda _: b""), SILENT)
    yield fault("closed inside the status line", closing(lambda _: b"HTTP/1.1 20"), FAILS)
    yield fault("closed inside the head", closing(lambda said: said.head()[:-9]), FAILS)
    yield fault("closed before the blank line's end", closing(lambda said: said.head()[:-1]), FAILS)
    yield fault("reset inside the head", resetting(lambda said: said.head()[:-9]), FAILS)
    yield fault("silent inside the head", stalling(lambda said: said.head()[:-9]), SILENT)
    yield fault("a head in drips", endlessly(lambda said: said.head()[:-2] + b"X: ", b"y", 0.01), SILENT)
    for name, said in {
        "garbage": b"\x00\xff\xfe garbage \r\n\r\n",
        "a TLS alert": b"\x15\x03\x01\x00\x02\x02\x46",
        "an SSH banner": b"SSH-2.0-OpenSSH_9.6\r\n",
        "HTTP/2 frames": b"\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x64",
        "HTTP/0.9": b'{"object": "chat.completion"}',
        "a request": b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "HTTP/3.0": b"HTTP/3.0 200 OK\r\nContent-Length: 0\r\n\r\n",
        "no status": b"HTTP/1.1 OK\r\nContent-Length: 0\r\n\r\n",
        "a status of four digits": b"HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n",
        "status 000": b"HTTP/1.1 000 Zero\r\nContent-Length: 0\r\n\r\n",
    }.items():
        yield fault(name, closing(lambda _, said=said: said), FAILS)  # type: ignore[misc]
    yield fault("bare line feeds", closing(lambda said: said.sized().replace(b"\r\n", b"\n")), FAILS)


def heads() -> Iterator[Fault]:
    """Heads of the wrong size or form."""
    yield line(b"X: " + b"y" * 70_000, name="a header line of 70 KB")
    yield line(b"\r\n".join(b"X-%d: y" % number for number in range(300)), name="300 header lines")
    yield line(b"\r\n".join([b"X: " + b"y" * 1000] * 80), name="80 KB of header lines")
    yield fault("a head without end", endlessly(lambda said: said.head()[:-2], b"X: y\r\n" * 500), FAILS)
    yield line(b"X: y\r\n folded", name="a folded line")
    yield line(b"X: a\0b", name="a NUL in a value")
    yield line(b"X: a\rSet-Cookie: b", name="a lone CR in a value")
    yield line(b"X Y: z", name="a blank in a name")
    yield line(b"X : y", name="a blank before the colon")
    yield line(b": y", name="a line without a name")
    yield line(b"nothing", name="a line without a colon")
    yield line(b"X-Latin: gr\xfc\xdfe", name="bytes beyond ASCII in a value", end=PASSES)
    yield line(b"Connection: close, x-lb-endpoint", name="a connection field that names ours", end=PASSES)


def interim() -> Iterator[Fault]:
    """Answers before the answer."""
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    yield fault("100 and then the answer", closing(lambda s: b"HTTP/1.1 100 Continue\r\n\r\n" + s.sized()), PASSES)
    yield fault("103 twice and then the answer", closing(lambda said: hints * 2 + said.sized()), PASSES)
    yield fault("100 and then nothing", closing(lambda _: b"HTTP/1.1 100 Continue\r\n\r\n"), FAILS)
    yield fault("102 and then silence", stalling(lambda _: b"HTTP/1.1 102 Processing\r\n\r\n"), SILENT)
    yield fault("102 without end", endlessly(lambda _: b"", b"HTTP/1.1 102 Processing\r\n\r\n" * 50), FAILS)
    yield fault("101", closing(lambda _: b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n"), FAILS)


def lengths() -> Iterator[Fault]:
    """Lengths that are wrong, missing or given twice."""
    for value in (b"-5", b"+5", b"0x5", b"5 5", b"", b"five", b"9" * 30, b"5, 5"):
        yield framed(b"Content-Length: " + value, name=f"content-length {value.decode()[:5]!r}")
    yield framed(b"Content-Length: 5", b"Content-Length: 5", name="the same length twice")
    yield framed(b"Content-Length: 5", b"Content-Length: 6", name="two lengths")
    yield framed(b"Content-Length: 5", CODING, name="length and chunks", body=lambda said: chunked(said.whole))
    yield framed(CODING, b"Content-Length: 5", name="chunks and length", body=lambda said: chunked(said.whole))
    yield framed(CODING, CODING, name="chunked twice", body=lambda said: chunked(said.whole))
    yield framed(b"Transfer-Encoding: gzip, chunked", name="compressed chunks", body=lambda s: chunked(s.whole))
    yield framed(b"Transfer-Encoding: identity", name="an identity coding")
    yield framed(name="closed at the end", end=PASSES)
    longer = closing(lambda said: said.head(b"Content-Length: 200000") + said.begun)
    yield fault("a length too long", longer, FAILS, BREAKS)
    shorter = closing(lambda said: said.sized() + b'{"of": "somebody else"}')
    yield fault("bytes behind the length", shorter, PASSES)
    yield fault("an answer behind the answer", closing(lambda said: said.sized() * 2), PASSES)


def chunks() -> Iterator[Fault]:
    """Chunks that are broken: before anything was read of them, and behind a beginning."""
    for name, rest in {
        "no number": b"zz\r\nx\r\n",
        "negative": b"-5\r\nx\r\n",
        "beyond 64 bits": b"fffffffffffffffff\r\nx",
        "nothing": b"\r\n",
        "without CRLF": b"1\nx\r\n",
        "longer than said": b"1\r\nxyz\r\n0\r\n\r\n",
        "cut": b"ff\r\nx",
    }.items():
        if name not in ("longer than said", "cut"):
            first = closing(lambda said, rest=rest: said.head(CODING) + rest)  # type: ignore[misc]
            yield fault(f"a first chunk size that is {name}", first, FAILS)
        later = closing(lambda said, rest=rest: said.begun_in_chunks(rest))  # type: ignore[misc]
        yield fault(f"a later chunk: {name}", later, FAILS, BREAKS)
    yield fault("no last chunk", closing(lambda said: said.begun_in_chunks()), FAILS, BREAKS)
    endless = endlessly(lambda said: said.begun_in_chunks(b"1;"), b"x" * 8000)
    yield fault("a chunk extension without end", endless, FAILS, BREAKS)
    trailers = endlessly(lambda said: said.begun_in_chunks(b"0\r\n"), b"X: y\r\n" * 1000)
    yield fault("trailers without end", trailers, FAILS, BREAKS)
    yield fault("trailers", closing(lambda said: said.coded()[:-2] + b"X: y\r\n\r\n"), PASSES)
    yield fault("chunks in HTTP/1.0", closing(lambda said: said.coded().replace(b"/1.1", b"/1.0", 1)), PASSES)


def bodies() -> Iterator[Fault]:
    """Ends in the middle, and cuts anywhere."""
    yield fault("reset behind the head", resetting(lambda said: said.head()), FAILS)
    yield fault("reset behind the beginning", resetting(lambda said: said.head() + said.begun), FAILS, BREAKS)
    yield fault("reset in chunks", resetting(lambda said: said.begun_in_chunks()), FAILS, BREAKS)
    yield fault("silent behind the head", stalling(lambda said: said.head(b"Content-Length: 9")), SILENT)
    yield fault("silent behind the beginning", stalling(lambda said: said.begun_in_chunks()), SILENT, STALLS)
    long = {"body": LONG_ANSWER, "events": LONG_EVENTS}
    yield fault("a long answer, cut", closing(lambda said: said.begun_in_chunks()), BREAKS, **long)
    sized = closing(lambda said: said.head(b"Content-Length: 200000") + said.begun)
    yield fault("a long answer, cut before its length", sized, BREAKS, **long)
    yield fault("a long answer, reset", resetting(lambda said: said.begun_in_chunks()), BREAKS, **long)
    yield fault("a long answer, silent", stalling(lambda said: said.begun_in_chunks()), STALLS, **long)
    yield fault("a long answer, broken", closing(lambda said: said.begun_in_chunks(b"zz")), BREAKS, **long)
    for step in (1, 7):
        yield fault(f"in steps of {step} bytes", dripping(lambda said: said.sized(), step), PASSES)
        yield fault(f"chunks in steps of {step} bytes", dripping(lambda said: said.coded(), step), PASSES)
    crlf = stream("a", "b", line_end=b"\r\n")
    yield fault("events with CRLF in steps of 1 byte", dripping(lambda said: said.coded(), 1), PASSES, events=crlf)


def contents() -> Iterator[Fault]:
    """Whole answers that are none."""
    empty = Said(b"text/event-stream", ())
    yield fault("nothing in a 200", closing(lambda said: said.sized()), PASSES, FAILS, events=empty)
    only_done = Said(b"text/event-stream", (DONE,))
    yield fault("[DONE] alone", closing(lambda said: said.coded()), PASSES, FAILS, events=only_done)
    trouble = b'{"error":{"message":"out of memory","type":"server_error","code":500}}'
    wrong = Said(b"application/json", (trouble,))
    events = Said(b"text/event-stream", (b"data: " + trouble + b"\n\n", DONE))
    yield fault(
        "an error in a 200",
        closing(lambda said: said.sized()),
        PASSES,
        FAILS,
        body=wrong,
        events=events,
        provenance=Provenance.ESTIMATED,
    )
    later = Said(b"text/event-stream", (*EVENTS.pieces[:2], b"data: " + trouble + b"\n\n"))
    yield fault(
        "an error in the middle of a stream",
        closing(lambda said: said.coded()),
        PASSES,
        body=wrong,
        events=later,
        provenance=Provenance.ESTIMATED,
    )
    page = Said(b"text/html", (b"<html>maintenance</html>",))
    yield fault(
        "a page instead of an answer",
        closing(lambda said: said.sized()),
        PASSES,
        body=page,
        events=page,
        provenance=Provenance.ESTIMATED,
    )


def nonsense() -> Iterator[Fault]:
    """Usage that cannot be: it passes as it is, and is not believed."""
    for usage in (
        b"null",
        b"5",
        b'"many"',
        b"[]",
        b"{}",
        b'{"prompt_tokens":-3,"completion_tokens":-2}',
        b'{"prompt_tokens":"3","completion_tokens":"2"}',
        b'{"prompt_tokens":1e400,"completion_tokens":NaN}',
        b'{"prompt_tokens":{"a":1},"completion_tokens":[2]}',
        b'{"prompt_tokens":true,"completion_tokens":null}',
    ):
        yield fault(
            f"usage {usage.decode()}",
            closing(lambda said: said.sized()),
            PASSES,
            body=completion("a", usage),
            events=stream("a", usage=usage),
            provenance=Provenance.ESTIMATED,
        )


def statuses() -> Iterator[Fault]:
    """Statuses that are no success."""
    own = Said(b"application/json", (b'{"error":{"message":"their words","type":"their_type","code":null}}',))
    for status, end in {
        400: relayed(400, "neutral", elsewhere=False, error_class="client"),
        404: relayed(404, "neutral", error_class="client"),
        408: relayed(408, "neutral", error_class="client"),
        413: relayed(413, "neutral", elsewhere=False, error_class="client"),
        422: relayed(422, "neutral", elsewhere=False, error_class="client"),
        429: relayed(429, "rejected", error_class="throttled"),
        500: relayed(500, "failed"),
        502: relayed(502, "failed"),
        503: relayed(503, "failed"),
        504: relayed(504, "failed"),
        301: FAILS,
        307: FAILS,
        401: FAILS,
        402: FAILS,
        403: FAILS,
        600: FAILS,
        999: FAILS,
    }.items():
        make = closing(lambda said, status=status: said.sized(b"Location: /x", status=b"%d Any" % status))  # type: ignore[misc]
        yield fault(f"status {status}", make, end, body=own, events=own, provenance=None)


FAULTS = [
    *no_answer(),
    *heads(),
    *interim(),
    *lengths(),
    *chunks(),
    *bodies(),
    *contents(),
    *nonsense(),
    *statuses(),
]
