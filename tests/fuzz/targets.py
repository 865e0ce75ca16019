"""What is fuzzed: each target takes any bytes and raises where something that must hold does not.

Seeds are what an endpoint, a client or an operator sends; a fuzzer changes them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from balancer.core.endpoints import Usage
from balancer.core.errors import InvalidRequest
from balancer.settings import SETTINGS, SettingsError, load_settings
from balancer.wire.answers import JsonMeter, retry_after
from balancer.wire.openai import OPERATIONS, parse, rewrite
from balancer.wire.sse import StreamMeter, first_event
from tests.faults.answers import completion, stream
from tests.faults.two_parsers import DELIBERATE, REFUSED, allowed, ours, theirs

NEW_MODEL = 'another "model" ü'


@dataclass(frozen=True, slots=True)
class Target:
    """One thing to fuzz."""

    run: Callable[[bytes], None]
    seeds: tuple[bytes, ...]


def response_parser(data: bytes) -> None:
    """Any answer, at any cut, is understood as by another implementation, or refused for a known reason."""
    mine, other = ours(data, len(data) or 1), theirs(data)
    assert mine == ours(data, 1) == ours(data, 7), "cuts change what is understood"
    if mine is not REFUSED and other is not REFUSED:
        assert mine == other, "two parties would see different answers"
    elif mine is not other:
        assert allowed(data, ours_refuses=mine is REFUSED), (mine, other)


def stream_meter(data: bytes) -> None:
    """Cuts change nothing, what passes is what came, and usage is a number of tokens."""
    smallest = 1 + len(data) // 300
    for options in ({}, {"strip_usage": True}, {"rename_to": NEW_MODEL}, {"strip_usage": True, "rename_to": "b"}):
        seen = {metered(StreamMeter(**options), data, step) for step in (smallest, len(data) or 1)}  # type: ignore[arg-type]
        assert len(seen) == 1, "cuts change the result"
        ((passed, usage, _, _),) = seen
        assert options or passed == data
        assert usage is None or (usage.prompt_tokens >= 0 and usage.completion_tokens >= 0)
    first_event(data)


def metered(meter: StreamMeter, data: bytes, step: int) -> tuple[bytes, Usage | None, int, bool]:
    """What comes out of a meter that is fed in steps."""
    passed = b"".join(meter.feed(data[at : at + step]) for at in range(0, len(data), step)) + meter.finish()
    return passed, meter.usage, meter.events, meter.done


def answer_meter(data: bytes) -> None:
    """Whatever comes passes; of an object that is renamed nothing changes but its model."""
    meter = JsonMeter()
    assert b"".join(meter.feed(data[at : at + 9]) for at in range(0, len(data), 9)) + meter.finish() == data
    renaming = JsonMeter(rename_to=NEW_MODEL)
    renamed = renaming.feed(data) + renaming.finish()
    assert renaming.usage == meter.usage
    try:
        before = json.loads(data, parse_constant=str)
    except ValueError:
        return  # what is no JSON is nobody's answer
    if not isinstance(before, dict):
        assert renamed == data
        return
    after = json.loads(renamed, parse_constant=str)
    assert {name: value for name, value in before.items() if name not in ("model", "response")} == {
        name: value for name, value in after.items() if name not in ("model", "response")
    }
    assert before.keys() == after.keys()


def request_body(data: bytes) -> None:
    """A body is refused with words, or read; rewritten it is another only where it was meant to be."""
    for operation in OPERATIONS.values():
        try:
            parsed = parse(data, operation)
        except InvalidRequest as refusal:
            assert refusal.message and 400 <= refusal.status < 500
            continue
        again = parse(rewrite(data, parsed, model=NEW_MODEL, include_usage=True), operation)
        assert again.model == NEW_MODEL
        assert again.stream == parsed.stream
        if operation.include_usage and not parsed.asks_usage and parsed.stream:
            assert again.asks_usage


def settings(data: bytes) -> None:
    """NAME=value lines, by the position of the name: settings, or problems of one line each that show no secret."""
    names = [name for setting in SETTINGS for name in setting.names]
    lines = data.decode("utf-8", "replace").split("\n")
    environ = {names[ord(line[0]) % len(names)]: line[1:] for line in lines if line}
    try:
        load_settings(environ)
    except SettingsError as error:
        assert 1 <= len(error.problems) <= len(environ)
        assert str(error).splitlines() == list(error.problems)
        for name in ("LB_ADMIN_TOKEN", "LB_SECRET_KEY", "LB_CLIENT_TOKENS"):
            secret = environ.get(name, "").strip()
            others = "".join(value for other, value in environ.items() if other != name)
            assert len(secret) < 12 or secret in others or secret not in str(error)


def retry_times(data: bytes) -> None:
    """Whatever an endpoint asks to wait is no time before now, nor without end."""
    for name in (b"retry-after", b"retry-after-ms"):
        seconds = retry_after([(name, data)], 1_800_000_000.0)
        assert seconds is None or (seconds >= 0 and math.isfinite(seconds))


_BODIES = (
    b'{"model":"a","messages":[{"role":"user","content":"hi"}],"stream":true}',
    b'{"model":"a","input":"x","stream":true,"stream_options":{"include_usage":false},"previous_response_id":"r"}',
    b'{"mod\\u0065l":"a","model":null,"stream_options":null,"x":[1e400,-0.0,"\\ud83d\\ude42"],"user":"u"}',
)
_WHOLE, _EVENTS = completion("Grüße"), stream("a", "Grüße", line_end=b"\r\n")
TARGETS: Mapping[str, Target] = {
    "response parser": Target(
        response_parser, (*(each.example for each in DELIBERATE.values()), _WHOLE.sized(), _WHOLE.coded())
    ),
    "stream meter": Target(stream_meter, (_EVENTS.whole, stream("b").whole, b'data: {"error":{"message":"x"}}\n\n')),
    "answer meter": Target(answer_meter, (_WHOLE.whole, b'{"response":{"model":"r","usage":{"input_tokens":5}}}')),
    "request body": Target(request_body, _BODIES),
    "settings": Target(settings, (b"a8090\nbtrue\nc10.0.0.0/8,::1/128\nd1e309\ne\x00",)),
    "retry times": Target(retry_times, (b"120", b"1.5", b"Sun, 06 Nov 1994 08:50:07 GMT", b"-1", b"1e999")),
}
