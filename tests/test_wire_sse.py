"""Streams: however the bytes are cut, the same comes out and is counted, and only what we asked for is taken out."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.core.endpoints import Usage
from balancer.wire.sse import BlockSplitter, StreamMeter, first_event, parse_block

DONE = b"data: [DONE]\n\n"


def event(document: object, name: str | None = None) -> bytes:
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(document)}\n\n".encode()


def chunk_of(content: str, **more: object) -> dict[str, object]:
    choice = {"index": 0, "delta": {"content": content}, "finish_reason": None}
    return {"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": "real", "choices": [choice], **more}


def usage_chunk(prompt: int, completion: int) -> dict[str, object]:
    return chunk_of("") | {"choices": [], "usage": {"prompt_tokens": prompt, "completion_tokens": completion}}


# Pieces that a byte stream may be made of, so that random streams meet every rule at its edges.
_FRAGMENTS = st.sampled_from(
    [
        b"\n", b"\r", b"\r\n", b"\n\n", b"\r\r", b"\r\n\r\n", b"\n\r\n", b"data:", b"data: ", b"data", b"event: x\n",
        b"event: error\n", b"event: response.completed\n", b": ping\n\n", b"\xef\xbb\xbf", b"[DONE]", DONE, b"{", b"}",
        b'"usage"', b'"usage": null', b'"usage":{"total_tokens":3}', b'"model":"real"', b'"model": "real"', b"complete",
        event(chunk_of("x")), event(usage_chunk(7, 2)), event(usage_chunk(8, 3)).replace(b"\n", b"\r\n"),
        event(usage_chunk(9, 4)).replace(b"\n", b"\r"), event(chunk_of("y", usage={"prompt_tokens": 1})),
        event(chunk_of("z", usage=None)), event({"response": {"model": "real", "usage": {"input_tokens": 5}}}),
        b'data: {"choices":[],\ndata: "usage":{"total_tokens":5}}\n\n', event({"choices": [], "usage": {}}),
    ]
)  # fmt: skip
_STREAMS = st.lists(_FRAGMENTS | st.binary(max_size=4), max_size=12).map(b"".join)
_OPTIONS = st.fixed_dictionaries({"strip_usage": st.booleans(), "rename_to": st.none() | st.just('a"sk\u00e9d')})


@st.composite
def _cut_streams(draw: st.DrawFn) -> tuple[bytes, list[bytes]]:
    stream = draw(_STREAMS)
    cuts = sorted(draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    return stream, [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]


def run(meter: StreamMeter, pieces: list[bytes]) -> tuple[object, ...]:
    forwarded = b"".join([meter.feed(piece) for piece in pieces])
    at_boundary = meter.at_boundary
    tail = meter.finish()
    return forwarded, at_boundary, tail, meter.usage, meter.events, meter.done, meter.answer_bytes


def bytewise(stream: bytes) -> list[bytes]:
    return [stream[i : i + 1] for i in range(len(stream))]


# -- any bytes, any cuts -------------------------------------------------------------------------------------------


@given(_cut_streams(), _OPTIONS)
def test_cuts_change_nothing(cut: tuple[bytes, list[bytes]], options: dict[str, Any]) -> None:
    stream, pieces = cut
    whole = run(StreamMeter(**options), [stream])
    assert run(StreamMeter(**options), pieces) == whole
    assert run(StreamMeter(**options), bytewise(stream)) == whole


@given(_cut_streams(), _OPTIONS)
def test_cuts_change_nothing_once_chunks_may_pass_whole(
    cut: tuple[bytes, list[bytes]], options: dict[str, Any]
) -> None:
    """The short path opens behind a first block, or with one."""
    opening = event(chunk_of("first"))
    stream, pieces = cut
    expected = run(StreamMeter(**options), bytewise(opening + stream))
    assert run(StreamMeter(**options), [opening + stream]) == expected
    assert run(StreamMeter(**options), [opening, stream]) == expected
    assert run(StreamMeter(**options), [opening, *pieces]) == expected
    assert run(StreamMeter(**options), [b"", opening, *pieces]) == expected


@pytest.mark.parametrize(
    "stream",
    [
        b"data: {\rdata: b\n\ndata: c\n\n",
        b"data: {\ndata: b\n\nc\n\n",
        b"data: {}\r\n\r\n\ndata: {}\r\r\ndata: {}\n",
        b"data: [DONE]\n\ndata: {[DONE]\n\n",
        b'data: {"choices":[],"usage":{}}\n\n\n\ndata: {}\n\n',
    ],
)
@pytest.mark.parametrize("opening", [b"", b"\xef\xbb\xbf", event(chunk_of("first"))])
@pytest.mark.parametrize("strip", [False, True])
def test_every_two_cuts_of_a_stubborn_stream(stream: bytes, opening: bytes, strip: bool) -> None:
    expected = run(StreamMeter(strip_usage=strip), bytewise(opening + stream))
    for start in range(len(stream)):
        for end in range(start, len(stream)):
            pieces = [opening, stream[:start], stream[start:end], stream[end:]]
            assert run(StreamMeter(strip_usage=strip), pieces) == expected
            assert run(StreamMeter(strip_usage=strip), [opening + pieces[1], *pieces[2:]]) == expected


@given(st.lists(_FRAGMENTS, max_size=4), st.sampled_from([b"\n\n", b"\r\n\r\n", b"\r\r"]), _STREAMS, _OPTIONS)
def test_blocks_before_a_report_in_the_same_chunk(
    fragments: list[bytes], gap: bytes, rest: bytes, options: dict[str, Any]
) -> None:
    """Whatever stands in front of a report, and however it ends, the report is seen and the rest counts the same."""
    stream = event(chunk_of("first")) + b"".join(fragments) + gap + event(usage_chunk(7, 2)) + rest
    expected = run(StreamMeter(**options), bytewise(stream))
    assert run(StreamMeter(**options), [stream]) == expected
    first, others = stream[: stream.index(b"\n\n") + 2], stream[stream.index(b"\n\n") + 2 :]
    assert run(StreamMeter(**options), [first, others]) == expected


@pytest.mark.parametrize("late_mark", [b"\xef\xbb\xbf", b"\xef", b"\xef\xbb"])
@pytest.mark.parametrize("before", [[b""], [b"", b""], [b"data: {}\n\n"], [b"", b"data: {}\n\n"]])
def test_a_byte_order_mark_counts_only_where_the_stream_begins(before: list[bytes], late_mark: bytes) -> None:
    later = [late_mark + b"data: {}\n\n", b"data: {}\n\n"]
    expected = run(StreamMeter(strip_usage=True), bytewise(b"".join([*before, *later])))
    assert run(StreamMeter(strip_usage=True), [*before, *later]) == expected


@given(_cut_streams())
def test_without_options_every_chunk_passes_as_it_is(cut: tuple[bytes, list[bytes]]) -> None:
    meter = StreamMeter()
    for piece in cut[1]:
        assert meter.feed(piece) is piece
    assert meter.finish() == b""
    assert meter.answer_bytes == len(cut[0])


@given(_cut_streams())
def test_pieces_are_what_was_fed(cut: tuple[bytes, list[bytes]]) -> None:
    stream, pieces = cut
    splitter = BlockSplitter()
    out = b"".join(piece for fed in pieces for _, piece in splitter.feed(fed))
    assert out + splitter.pending == stream
    assert out + b"".join(piece for _, piece in splitter.finish()) == stream


@given(_STREAMS)
def test_first_event_takes_any_bytes(held: bytes) -> None:
    found = first_event(held)
    if found is not None:
        assert first_event(held + b"data: later\n\n") == found


def events_of(stream: bytes) -> list[tuple[bytes, bytes]]:
    """A plain reading of the rules: the (name, data) of each event dispatched."""
    text = stream.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    events, data, name = [], list[bytes](), b""
    for line in text.split(b"\n")[:-1]:
        field, _, value = line.partition(b":")
        value = value[1:] if value[:1] == b" " else value
        if not line:
            if data:
                events.append((name, b"\n".join(data)))
            data, name = [], b""
        elif field == b"data":
            data.append(value)
        elif field == b"event":
            name = value
    return events


@given(_cut_streams(), _OPTIONS)
def test_a_comment_at_a_boundary_disturbs_no_event(cut: tuple[bytes, list[bytes]], options: dict[str, Any]) -> None:
    meter, plain = StreamMeter(**options), b""
    pinged = b": ping\n\n" if meter.at_boundary else b""
    # A byte order mark counts only at the very start.
    pinged = b"" if cut[0].startswith(b"\xef") else pinged
    for piece in cut[1]:
        out = meter.feed(piece)
        plain += out
        pinged += out + (b": ping\n\n" if meter.at_boundary and plain else b"")
    tail = meter.finish()
    assert events_of(pinged + tail) == events_of(plain + tail)


@given(_STREAMS)
def test_first_event_is_the_first_dispatched(held: bytes) -> None:
    events = events_of(held)
    found = first_event(held)
    assert (found is None) == (not events)
    if found is not None:
        assert (found.name or b"", found.data) == events[0]


# -- streams as endpoints send them --------------------------------------------------------------------------------


@st.composite
def _reported_streams(draw: st.DrawFn) -> tuple[bytes, bytes, Usage]:
    """A stream with the usage we asked for, the same as it would have been without, and that usage."""
    contents = draw(st.lists(st.text(max_size=6) | st.sampled_from(['"usage":{', "[DONE]", "complete"]), max_size=6))
    line_end = draw(st.sampled_from([b"\n", b"\r\n", b"\r"]))
    gap = line_end * draw(st.integers(0, 2))
    prompt, completion = draw(st.integers(0, 9**9)), draw(st.integers(0, 9**9))
    ascii_only = draw(st.booleans())

    def block(document: object) -> bytes:
        text = json.dumps(document, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
        return draw(st.sampled_from([b"data: ", b"data:"])) + text + 2 * line_end + gap

    blocks = [block(chunk_of(content)) for content in contents]
    comments = [b": thinking" + 2 * line_end] if draw(st.booleans()) else []
    last = [draw(st.sampled_from([b"data: [DONE]" + 2 * line_end, b"data: [DONE]" + line_end, b""]))]
    bare = comments + blocks
    report = block(usage_chunk(prompt, completion))
    return b"".join([*bare, report, *last]), b"".join(bare + last), Usage(prompt, completion)


@given(_reported_streams(), st.data())
def test_an_injected_report_leaves_no_trace(streams: tuple[bytes, bytes, Usage], data: st.DataObject) -> None:
    with_usage, without, usage = streams
    size = data.draw(st.integers(1, len(with_usage)))
    for pieces in ([with_usage], [with_usage[i : i + size] for i in range(0, len(with_usage), size)]):
        meter = StreamMeter(strip_usage=True)
        out = b"".join([meter.feed(piece) for piece in pieces]) + meter.finish()
        assert (out, meter.usage, meter.done) == (without, usage, b"[DONE]" in without[-20:])


def test_usage_in_its_own_packet_before_done() -> None:
    report = event(usage_chunk(11, 22))
    for pieces in ([report, DONE], [report + DONE], [report[:-1], b"\n" + DONE], [report + b"data: [DO", b"NE]\n\n"]):
        meter = StreamMeter(strip_usage=True)
        assert meter.feed(event(chunk_of("a"))) == event(chunk_of("a"))
        assert b"".join([meter.feed(piece) for piece in pieces]) + meter.finish() == DONE
        assert (meter.usage, meter.done) == (Usage(11, 22), True)


@pytest.mark.parametrize(
    "kept",
    [
        chunk_of("a", usage={"prompt_tokens": 1, "completion_tokens": 1}),
        chunk_of("a", usage=None),
        chunk_of("") | {"choices": []},
        chunk_of("") | {"choices": [], "usage": None},
        {"usage": {"prompt_tokens": 1, "completion_tokens": 1}},
        {"choices": None, "usage": {"prompt_tokens": 1}},
        {"outer": {"choices": [], "usage": {"prompt_tokens": 1}}},
        {"choices": [], "usage": None, "outer": {"usage": {"prompt_tokens": 1}}},
        [{"choices": [], "usage": {"prompt_tokens": 1}}],
    ],
)
def test_only_a_pure_report_is_stripped(kept: object) -> None:
    meter = StreamMeter(strip_usage=True)
    assert meter.feed(event(kept)) == event(kept)


def test_the_last_usage_counts_and_null_does_not() -> None:
    meter = StreamMeter()
    for completion in range(1, 4):
        meter.feed(event(chunk_of("a", usage={"prompt_tokens": 5, "completion_tokens": completion})))
        meter.feed(event(chunk_of("a", usage=None)))
    meter.feed(event(chunk_of("a", usage={"prompt_tokens": "?"})))
    assert meter.usage == Usage(5, 3)


@pytest.mark.parametrize("ending", [b"", b"\n", b"\r\n"])
def test_a_report_without_a_blank_line_at_the_end(ending: bytes) -> None:
    last = event(usage_chunk(1, 2)).rstrip() + ending
    passing, stripping = StreamMeter(), StreamMeter(strip_usage=True)
    assert (passing.feed(last), stripping.feed(last)) == (last, b"")
    assert (passing.finish(), stripping.finish()) == (b"", b"")
    assert passing.usage == stripping.usage == Usage(1, 2)


def test_what_is_held_back_of_a_broken_stream_is_an_unfinished_event() -> None:
    meter = StreamMeter(strip_usage=True)
    first, second = event(chunk_of("a")), event(chunk_of("b"))
    assert meter.feed(first + second[:-1]) == first
    assert meter.at_boundary
    assert meter.feed(b"\n") == second
    passing = StreamMeter()
    passing.feed(first + second[:-1])
    assert not passing.at_boundary


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_events_are_counted(mark: bytes, line_end: bytes) -> None:
    meter = StreamMeter()
    assert (meter.events, meter.at_boundary) == (0, True)
    meter.feed(mark + event(chunk_of("data: a\ndata: b")).replace(b"\n", line_end))
    meter.feed((event(chunk_of("b")) * 3 + b": comment\n\n").replace(b"\n", line_end))
    named = event({"type": "x"}, "named") + b"event: empty\n\n" + b"data:{}\n\n"
    meter.feed(named.replace(b"\n", line_end))
    assert meter.events == 6
    meter.feed(DONE.replace(b"\n", line_end))
    assert (meter.events, meter.done) == (6, True)


@pytest.mark.parametrize("name", ["response.completed", "response.incomplete"])
def test_responses_api(name: str) -> None:
    meter = StreamMeter(rename_to="asked")
    usage = {"input_tokens": 30, "output_tokens": 4, "total_tokens": 34}
    created = {"type": "response.created", "response": {"model": "real", "usage": None, "error": None}}
    ended = {"type": name, "response": {"usage": usage, "model": "real"}}
    assert meter.feed(event(created, "response.created")) == event(created, "response.created").replace(
        b"real", b"asked"
    )
    assert not meter.done
    assert meter.feed(event(ended, name)) == event(ended, name).replace(b"real", b"asked")
    assert (meter.usage, meter.done, meter.events) == (Usage(30, 4), True, 2)


# -- renaming ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": ")])
@pytest.mark.parametrize("real", ["real", "org/re\u00e4l", 'quo"ted\\'])
def test_rename(real: str, separators: tuple[str, str]) -> None:
    def line(name: str, content: str) -> bytes:
        document = chunk_of(content, tools=[{"model": {"type": "string"}}]) | {"model": name}
        return b"data: " + json.dumps(document, separators=separators).encode() + b"\n\n"

    def short(name: str) -> bytes:
        return (
            b"data: "
            + json.dumps({"model": name, "content": '"model":"real"'}, separators=separators).encode()
            + b"\n\n"
        )

    meter = StreamMeter(rename_to='my "alias"')
    for _ in range(3):
        assert meter.feed(line(real, "x")) == line('my "alias"', "x")
        assert meter.feed(short(real)) == short('my "alias"')
        assert meter.feed(short(real + "-2024")) == short('my "alias"')
    assert meter.feed(b'data: {"model":null}\n\n') == b'data: {"model":null}\n\n'
    assert meter.feed(b'data: {"model":"a}\n\n' + DONE) == b'data: {"model":"a}\n\n' + DONE
    assert meter.feed(b'data: {"model":\ndata: "real"}\n\n') == b'data: {"model":\ndata: "real"}\n\n'


def test_rename_does_not_learn_a_nested_name() -> None:
    meter = StreamMeter(rename_to="asked")
    odd = b'data: {"mod\\u0065l":"real","x":{"model":"inner"}}\n\n'
    assert meter.feed(odd) == odd.replace(b'"real"', b'"asked"')
    nested = b'data: {"x":{"model":"inner"}}\n\n'
    assert meter.feed(nested) == nested


# -- blocks beyond the limit ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("strip", [False, True])
@pytest.mark.parametrize("size", [1_000_000, 1_000_001, 1_000_002, 1_000_003, 2_500_000])
@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
def test_an_oversize_event_passes_unread_in_bounded_memory(strip: bool, size: int, line_end: bytes) -> None:
    report = event(usage_chunk(1, 2)).rstrip(b"\n")
    big = report.replace(b"chatcmpl-1", b"x" * (size - len(report) + 10))
    assert len(big) == size
    stream = big + 2 * line_end + report.replace(b": 2", b": 3") + 2 * line_end
    results = []
    for step in (len(stream), 65_536, 999_999, size, size + 1):
        meter = StreamMeter(strip_usage=strip)
        results.append(run(meter, [stream[i : i + step] for i in range(0, len(stream), step)]))
    assert all(result == results[0] for result in results)
    is_read = size + line_end.count(b"\r\n") <= 1_000_000
    forwarded, usage = results[0][0], results[0][3]
    kept = b"" if is_read else big + 2 * line_end
    assert forwarded == (kept if strip else stream)
    assert usage == Usage(1, 3)


def test_an_oversize_event_of_many_lines_counts_once() -> None:
    first = event(chunk_of("first"))
    stream = first + b"data: " + b"x" * 1_200_000 + b"\ndata: y" * 3 + b"\n\n" + first
    for pieces in (
        [first, stream[len(first) :]],
        [stream],
        [stream[:1_100_000], stream[1_100_000:]],
        [stream[:-300], stream[-300:]],
    ):
        meter = StreamMeter()
        assert run(meter, pieces)[0] == stream
        assert meter.events == 3


def test_memory_is_bounded_for_an_endless_line() -> None:
    splitter = BlockSplitter()
    for _ in range(100):
        splitter.feed(b"x" * 65_536)
        assert len(splitter.pending) <= 1_000_001
    meter = StreamMeter(strip_usage=True)
    meter.feed(b"data: " + b"x" * 2_000_000)
    assert not meter.at_boundary
    assert meter.feed(b"\n\n") == b"x\n\n"
    assert (meter.at_boundary, meter.events) == (True, 1)


# -- blocks and the first event ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("block", "data", "name"),
    [
        (b"data: a\n\n", b"a", None),
        (b"data:a\n\n", b"a", None),
        (b"data:  a \n\n", b" a ", None),
        (b"data\n\n", b"", None),
        (b"data: a\r\ndata: b\r\n\r\n", b"a\nb", None),
        (b": c\nid: 1\nevent: e\nretry: 5\ndata: a\n\n", b"a", b"e"),
        (b": only a comment\n\n", None, None),
        (b"event: e\n\n", None, b"e"),
        (b"dataset: a\n\n", None, None),
        (b"", None, None),
    ],
)
def test_parse_block(block: bytes, data: bytes | None, name: bytes | None) -> None:
    assert parse_block(block) == (data, name)


@pytest.mark.parametrize(
    "held", [b"", b"data: {}", b"data: {}\n", b": ping\n\n", b"\n\n: a\r\n\r\nevent: x\n\n", b"\xef\xbb\xbf"]
)
def test_no_first_event_yet(held: bytes) -> None:
    assert first_event(held) is None


@pytest.mark.parametrize(
    ("held", "is_error"),
    [
        (event(chunk_of("a")), False),
        (event(chunk_of("a", error=None)), False),
        (event({"error": {"message": "out of memory"}}), True),
        (event({"error": "out of memory"}), True),
        (event({"error": {"message": "x"}, "choices": []}), True),
        (event({"error": {}, "choices": []}), False),
        (event(chunk_of("a", error={"message": "only a warning"})), False),
        (event({"message": "x"}, "error"), True),
        (event({"type": "error", "message": "x"}), True),
        (event({"type": "response.failed", "response": {}}, "response.failed"), True),
        (event({"type": "response.created", "response": {"error": None}}, "response.created"), False),
        (event(["error"]), False),
        (b"data: error\n\n", False),
        (DONE, False),
        (b"\xef\xbb\xbf: ping\n\n" + event({"error": "x"}), True),
        (event(chunk_of("a")) + event({"error": "later"}), False),
    ],
)
def test_first_event(held: bytes, is_error: bool) -> None:
    found = first_event(held)
    assert found is not None
    assert (found.is_error, found.is_end) == (is_error, held == DONE)
    assert first_event(held.replace(b"\n", b"\r\n")) == found
    assert first_event(held.replace(b"\n", b"\r")) == found
