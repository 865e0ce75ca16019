"""Request bodies: what is read, what is refused and in which words, what a rewrite touches; error answers."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.core.errors import (
    AllBusy,
    BalancerError,
    BrokenConnection,
    ConnectError,
    Draining,
    InvalidRequest,
    ModelNotFound,
    NoneEligible,
    NotEligible,
    ProtocolError,
    StaleConnection,
    Unauthorized,
    UpstreamTimeout,
)
from balancer.wire.json_text import decode, edit_values, insert_member, member_spans, value_end
from balancer.wire.openai import OPERATIONS, answer_for, error_body, error_event, parse, rewrite

CHAT = OPERATIONS["/v1/chat/completions"]
EMBEDDINGS = OPERATIONS["/v1/embeddings"]
RESPONSES = OPERATIONS["/v1/responses"]


def test_operations() -> None:
    assert {path: operation.name for path, operation in OPERATIONS.items()} == {
        "/v1/chat/completions": "chat",
        "/v1/completions": "completions",
        "/v1/embeddings": "embeddings",
        "/v1/responses": "responses",
        "/v1/rerank": "rerank",
        "/v1/moderations": "moderations",
        "/v1/images/generations": "images",
        "/v1/audio/speech": "audio",
    }
    assert CHAT.path == b"/chat/completions"
    assert {each.name for each in OPERATIONS.values() if each.include_usage} == {"chat", "completions"}
    assert {each.name for each in OPERATIONS.values() if not each.metered} == {"images", "audio"}


# -- parse ---------------------------------------------------------------------------------------------------------


def test_parse_reads_model_and_stream() -> None:
    parsed = parse(b'{"model":"org/llama:8b","stream":true,"messages":[]}', CHAT)
    assert (parsed.model, parsed.stream, parsed.asks_usage) == ("org/llama:8b", True, False)


@pytest.mark.parametrize(
    "body", [b"{}", b' \n{"model":null,"stream":null} ', b'{"model":""}', b'{"messages":[{"model":"x","stream":true}]}']
)
def test_parse_without_a_model(body: bytes) -> None:
    parsed = parse(body, CHAT)
    assert (parsed.model, parsed.stream) == (None, False)


@pytest.mark.parametrize(
    ("options", "asks"),
    [
        (b"null", False),
        (b"{}", False),
        (b'{"include_usage":null}', False),
        (b'{"include_usage":false}', False),
        (b'{"include_usage":true}', True),
        (b'{"include_usage":1}', True),
        (b'{"include_usage":"yes"}', True),
    ],
)
def test_parse_sees_whether_the_client_decided_on_usage(options: bytes, asks: bool) -> None:
    parsed = parse(b'{"stream":true,"stream_options":' + options + b"}", CHAT)
    assert parsed.asks_usage is asks


@pytest.mark.parametrize("body", [b'{"stream_options":7}', b'{"stream":false,"stream_options":7}'])
def test_parse_leaves_stream_options_to_the_endpoint_where_they_are_not_touched(body: bytes) -> None:
    assert parse(body, CHAT).asks_usage is False
    assert parse(b'{"stream":true,"stream_options":7}', RESPONSES).asks_usage is False


def test_parse_reads_previous_response_id_of_responses_only() -> None:
    body = b'{"previous_response_id":"resp_1"}'
    assert parse(body, RESPONSES).previous_response_id == "resp_1"
    assert parse(body, CHAT).previous_response_id is None
    assert parse(b'{"previous_response_id":null}', RESPONSES).previous_response_id is None
    assert parse(b'{"previous_response_id":5}', CHAT).previous_response_id is None
    with pytest.raises(InvalidRequest, match="'previous_response_id' must be a string, not a number"):
        parse(b'{"previous_response_id":5}', RESPONSES)


@pytest.mark.parametrize(
    ("body", "message", "param"),
    [
        (b"", "is empty", None),
        (b" ", "not valid JSON", None),
        (b'{"a":1,}', "not valid JSON: .* at line 1 column 8", None),
        (b'{\n"a" 1}', "not valid JSON: .* at line 2 column 5", None),
        (b'{"a":1} x', "not valid JSON", None),
        (b'{"a":"\xff"}', "not valid UTF-8 at byte 6", None),
        (b'{"a":"\xed\xa0\x80"}', "not valid UTF-8 at byte 6", None),
        ('{"a":1}'.encode("utf-16"), "not valid UTF-8", None),
        (b"\xef\xbb\xbf{}", "not valid JSON", None),
        (b"[]", "must be a JSON object, not an array", None),
        (b"null", "must be a JSON object, not null", None),
        (b'"x"', "must be a JSON object, not a string", None),
        (b"NaN", "must be a JSON object, not a number", None),
        (b'{"model":5}', "'model' must be a string, not a number", "model"),
        (b'{"model":NaN}', "'model' must be a string, not a number", "model"),
        (b'{"model":["a"]}', "'model' must be a string, not an array", "model"),
        (b'{"model":true}', "'model' must be a string, not a boolean", "model"),
        (b'{"model":"' + b"x" * 257 + b'"}', "at most 256 characters long, not 257", "model"),
        (b'{"model":"a\\nb"}', "must not contain control characters", "model"),
        (b'{"model":"a\\u0085b"}', "must not contain control characters", "model"),
        (b'{"model":"a\\ud800b"}', "must not contain control characters", "model"),
        (b'{"stream":"true"}', "'stream' must be a boolean, not a string", "stream"),
        (b'{"stream":1}', "'stream' must be a boolean, not a number", "stream"),
        (b'{"stream":{}}', "'stream' must be a boolean, not an object", "stream"),
        (b'{"stream":true,"stream_options":[]}', "'stream_options' must be an object or null", "stream_options"),
    ],
)
def test_parse_refuses(body: bytes, message: str, param: str | None) -> None:
    with pytest.raises(InvalidRequest, match=message) as refusal:
        parse(body, CHAT)
    assert (refusal.value.status, refusal.value.param) == (400, param)


@pytest.mark.parametrize(
    "value",
    [b"NaN", b"-Infinity", b"1" * 40, b"-" + b"9" * 9000, b'"\\ud83d"', b"1e999", b'"\xf0\x9f\x98\x80"'],
)
def test_parse_takes_what_a_strict_decoder_refuses(value: bytes) -> None:
    parsed = parse(b'{"model":"m","stream":true,"x":' + value + b"}", CHAT)
    assert (parsed.model, parsed.stream) == ("m", True)


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
@pytest.mark.parametrize("depth", [2_000, 200_000])
def test_parse_refuses_deep_nesting(opening: bytes, depth: int) -> None:
    closing = b"]" if opening == b"[" else b"}"
    for body in (opening * depth, b'{"x":' + opening * depth + b"1" + closing * depth + b"}"):
        with pytest.raises(InvalidRequest):
            parse(body, CHAT)


def test_parse_takes_usual_nesting_and_rewrites_it() -> None:
    body = b'{"x":' + b"[" * 900 + b"]" * 900 + b',"mod\\u0065l":"a"}'
    assert json.loads(rewrite(body, parse(body, CHAT), model="b"))["model"] == "b"


@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_parse_never_raises_anything_else(body: bytes) -> None:
    for operation in (CHAT, RESPONSES):
        try:
            parse(body, operation)
        except InvalidRequest as refusal:
            error_body(refusal.message, error_type="invalid_request_error")


# -- rewrite -------------------------------------------------------------------------------------------------------

_KEYS = st.sampled_from(["model", "stream_options", "include_usage", "Model", "mode", 'a"model"', "\\model"])
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | _KEYS | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS | st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
_MODELS = st.none() | st.sampled_from(
    ["model", "stream_options", "org/llama-3", 'quo"ted', "\\", "ü😀", "{", "x" * 256]
)
_OPTIONS = st.none() | st.dictionaries(_KEYS, st.booleans() | st.none() | _VALUES, max_size=3)


class Writer:
    """Writes JSON in as many spellings as the grammar allows; the same `seed` gives the same spelling."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)

    def gap(self) -> str:
        return self._rng.choice(["", "", "", " ", "\n", "\t \r\n"])

    def string(self, text: str) -> str:
        return '"' + "".join(self._character(each) for each in text) + '"'

    def _character(self, character: str) -> str:
        plain = json.dumps(character, ensure_ascii=self._rng.random() < 0.5)[1:-1]
        if ord(character) < 0x10000 and self._rng.random() < 0.1:
            return f"\\u{ord(character):04{self._rng.choice('xX')}}"
        return plain

    def value(self, value: Any) -> str:
        if isinstance(value, str):
            return self.string(value)
        if isinstance(value, list):
            return "[" + self.gap() + ",".join(self.gap() + self.value(each) + self.gap() for each in value) + "]"
        if isinstance(value, dict):
            return "{" + self.gap() + ",".join(self.pair(*each) for each in value.items()) + "}"
        return json.dumps(value)

    def pair(self, key: str, value: Any) -> str:
        gaps = [self.gap() for _ in range(4)]
        return gaps[0] + self.string(key) + gaps[1] + ":" + gaps[2] + self.value(value) + gaps[3]


@st.composite
def _bodies(draw: st.DrawFn) -> tuple[list[str], list[str]]:
    """Keys, perhaps repeated, and the pieces of a body: one piece before, one of, one behind each key's value."""
    members: list[tuple[str, Any]] = draw(st.lists(st.tuples(st.text(max_size=4), _VALUES), max_size=4))
    for key, values in (("model", _MODELS), ("stream_options", _OPTIONS)):
        for value in draw(st.lists(values, max_size=2)):
            members.insert(draw(st.integers(0, len(members))), (key, value))
    writer = Writer(draw(st.integers(0, 2**32)))
    pieces = [writer.gap() + "{" + writer.gap()]
    for index, (key, value) in enumerate(members):
        pieces[-1] += ("," if index else "") + writer.gap() + writer.string(key) + writer.gap() + ":" + writer.gap()
        pieces += [writer.value(value), writer.gap()]
    pieces[-1] += "}" + writer.gap()
    return [key for key, _ in members], pieces


def _encoded(pieces: list[str]) -> bytes:
    return "".join(pieces).encode("utf-8", "surrogatepass")


@given(_bodies(), _MODELS.filter(bool))
def test_rewriting_the_model_touches_nothing_else(body: tuple[list[str], list[str]], model: str) -> None:
    keys, pieces = body
    before = _encoded(pieces)
    parsed = parse(before, CHAT)
    after = rewrite(before, parsed, model=model)
    if parsed.model == model:
        assert after is before
        return
    expected = list(pieces)
    if "model" in keys:
        for index, key in enumerate(keys):
            if key == "model":
                expected[2 * index + 1] = json.dumps(model)
    else:
        comma = "," if keys else ""
        brace = expected[0].index("{") + 1
        expected[0] = expected[0][:brace] + f'"model":{json.dumps(model)}{comma}' + expected[0][brace:]
    assert after == _encoded(expected)


@given(_bodies(), _MODELS)
def test_a_rewritten_body_means_what_it_meant_but_for_the_rewrite(
    body: tuple[list[str], list[str]], model: str | None
) -> None:
    before = _encoded(body[1])
    document = json.loads(before)
    options = document.get("stream_options") or {}
    parsed = parse(before, CHAT)
    after = rewrite(before, parsed, model=model, include_usage=True)
    if model is not None:
        document["model"] = model
    document["stream_options"] = options | {"include_usage": True}
    assert json.loads(after) == document
    assert rewrite(before, parsed) is before


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"{}", b'{"stream_options":{"include_usage":true}}'),
        (b' { "a":1}', b' {"stream_options":{"include_usage":true}, "a":1}'),
        (b'{"stream_options":null}', b'{"stream_options":{"include_usage":true}}'),
        (b'{"stream_options": { } }', b'{"stream_options": {"include_usage":true } }'),
        (b'{"stream_options":{"x": 1.00}}', b'{"stream_options":{"include_usage":true,"x": 1.00}}'),
        (b'{"stream_options":{"include_usage" : false, "x":2}}', b'{"stream_options":{"include_usage" : true, "x":2}}'),
        (
            b'{"n":"stream_options","stream_options":{}}',
            b'{"n":"stream_options","stream_options":{"include_usage":true}}',
        ),
    ],
)
def test_rewrite_asks_for_usage(before: bytes, after: bytes) -> None:
    assert rewrite(before, parse(before, CHAT), include_usage=True) == after


def test_rewrite_leaves_the_clients_own_decision() -> None:
    body = b'{"stream":true,"stream_options":{"include_usage":true}}'
    assert rewrite(body, parse(body, CHAT), include_usage=True) is body
    assert rewrite(b"{}", parse(b"{}", CHAT), include_usage=False) == b"{}"


@pytest.mark.parametrize(
    "body",
    [
        b'{"mod\\u0065l":"a","messages":[{"model":"a"}]}',
        b'{"messages":[{"model":"a"}],"m\\u006Fdel":"a"}',
        b'{"kind":"model","model":"a"}',
        b'{"messages":["say \\"model\\""],"model":"a"}',
        b'{"tools":[{"model":{"type":"string"}}],"model" : "a"}',
        b'{"a":"\\\\","model":"a","b":"}\\"{"}',
    ],
)
def test_rewrite_finds_the_objects_own_model(body: bytes) -> None:
    after = json.loads(rewrite(body, parse(body, CHAT), model="b"))
    assert after == json.loads(body) | {"model": "b"}


def test_rewrite_changes_every_value_of_a_repeated_key() -> None:
    body = b'{"model":"a", "x":[1.0], "model":"b"}'
    assert rewrite(body, parse(body, CHAT), model="c") == b'{"model":"c", "x":[1.0], "model":"c"}'


# -- JSON text -----------------------------------------------------------------------------------------------------


@given(_VALUES, st.integers(0, 2**32), st.text(alphabet=' ,]}"[{x', max_size=5))
def test_value_end_finds_the_end(value: Any, seed: int, behind: str) -> None:
    text = Writer(seed).value(value).encode("utf-8", "surrogatepass")
    scalar = text[:1] not in b'"[{'
    assert value_end(text + (b"," if scalar else b"") + behind.encode(), 0) == len(text)


@given(st.text(alphabet='{}[]",:\\ 1a\n', max_size=40).map(str.encode) | st.binary(max_size=30))
def test_scanning_ends_on_any_bytes(data: bytes) -> None:
    for scan in (lambda: value_end(data, 0), lambda: member_spans(data, "a"), lambda: insert_member(data, "a", b"1")):
        try:
            scan()
        except ValueError:
            continue
        else:
            assert data.strip(b" \t\r\n")  # JSON knows no other blanks (RFC 8259 section 2)


def test_edit_values_returns_the_same_object_without_a_change() -> None:
    data = b'{"a":1}'
    assert edit_values(data, member_spans(data, "a"), lambda old: old) is data
    assert edit_values(data, [], lambda _: b"2") is data


def test_decode_gives_numbers_beyond_integers() -> None:
    assert decode(b'{"a":' + b"1" * 5000 + b',"b":NaN}') != {}
    with pytest.raises(ValueError, match="nested too deeply"):
        decode(b"[" * 100_000)


# -- errors --------------------------------------------------------------------------------------------------------


def _error(body: bytes) -> dict[str, Any]:
    document = json.loads(body)
    assert list(document) == ["error"]
    assert list(document["error"]) == ["message", "type", "param", "code"]
    error: dict[str, Any] = document["error"]
    return error


@pytest.mark.parametrize(
    ("error", "status", "error_type", "code", "wait"),
    [
        (InvalidRequest("'model' must be"), 400, "invalid_request_error", None, None),
        (InvalidRequest("too long", code="c", status=413), 413, "invalid_request_error", "c", None),
        (Unauthorized("no token"), 401, "invalid_request_error", "invalid_api_key", None),
        (Draining(), 503, "service_unavailable", "shutting_down", 5),
        (ModelNotFound("gpt-x"), 404, "invalid_request_error", "model_not_found", None),
        (ModelNotFound(None), 404, "invalid_request_error", "model_not_found", None),
        (NotEligible("gpu-1", "m", {"gpu-1": "full"}), 404, "invalid_request_error", "endpoint_not_eligible", None),
        (AllBusy("m", {"a": "full"}), 429, "rate_limit_error", "rate_limit_exceeded", 1),
        (AllBusy("m", {"a": "full"}, 0.0), 429, "rate_limit_error", "rate_limit_exceeded", 1),
        (AllBusy("m", {"a": "full"}, 2.1), 429, "rate_limit_error", "rate_limit_exceeded", 3),
        (AllBusy("m", {"a": "full"}, float("inf")), 429, "rate_limit_error", "rate_limit_exceeded", 3600),
        (NoneEligible("m"), 503, "service_unavailable", "no_endpoint_available", 5),
        (NoneEligible("m", {"a": "x"}, 12.0), 503, "service_unavailable", "no_endpoint_available", 12),
        (NoneEligible("m", {"a": "x"}, float("nan")), 503, "service_unavailable", "no_endpoint_available", 5),
        (ConnectError("refused"), 502, "server_error", "upstream_error", None),
        (StaleConnection("gone"), 502, "server_error", "upstream_error", None),
        (BrokenConnection("reset"), 502, "server_error", "upstream_error", None),
        (ProtocolError("no HTTP"), 502, "server_error", "upstream_error", None),
        (UpstreamTimeout("silent"), 504, "server_error", "upstream_timeout", None),
        (BalancerError("secret inside"), 500, "server_error", "internal_error", None),
    ],
)
def test_answer_for(error: BalancerError, status: int, error_type: str, code: str | None, wait: int | None) -> None:
    answer = answer_for(error)
    body = _error(answer.body)
    assert (answer.status, body["type"], body["code"], answer.retry_after_seconds) == (status, error_type, code, wait)


def test_answers_say_what_is_wrong_and_what_to_do() -> None:
    assert _error(answer_for(InvalidRequest("no good", param="model")).body)["param"] == "model"
    assert "'gpt-x'. GET /v1/models" in _error(answer_for(ModelNotFound("gpt-x")).body)["message"]
    near = answer_for(ModelNotFound("gpt-x", nearest=("gpt-y", "gpt-z")))
    assert "'gpt-x'. Did you mean 'gpt-y' or 'gpt-z'? GET" in _error(near.body)["message"]
    assert "no models available for auto selection" in _error(answer_for(ModelNotFound(None)).body)["message"]
    assert "'gpu-1' is not known" in _error(answer_for(NotEligible("gpu-1", "m")).body)["message"]
    pinned = answer_for(NotEligible("gpu-1", "m", {"gpu-1": "full: 1 in flight"}))
    assert "not eligible for this request: gpu-1: full: 1 in flight" in _error(pinned.body)["message"]
    assert "refused by gpu-1" in _error(answer_for(ConnectError("refused by gpu-1")).body)["message"]
    assert "secret" not in _error(answer_for(BalancerError("secret inside")).body)["message"]
    assert "add one in the editor" in _error(answer_for(NoneEligible("m")).body)["message"]
    reasons = {"gpu-1": "cooling down for 3 s more", "gpu-2": "not connected"}
    message = _error(answer_for(NoneEligible("m", reasons)).body)["message"]
    assert "gpu-1: cooling down for 3 s more; gpu-2: not connected." in message
    assert "in the editor" in message
    assert "gpu-2: not connected. Try again in 8 s" in _error(answer_for(AllBusy("m", reasons, 7.5)).body)["message"]


def test_reasons_are_bounded() -> None:
    message = _error(answer_for(NoneEligible("m", {f"gpu-{n}": "full" for n in range(25)})).body)["message"]
    assert "gpu-19: full; and 5 more." in message
    assert "gpu-20" not in message


@given(st.text(st.characters(exclude_categories=[])))
def test_any_message_makes_one_event(message: str) -> None:
    event = error_event(message)
    assert event.startswith(b"data: {")
    assert event.endswith(b"}\n\n")
    assert event.count(b"\n") == 2
    assert b"\r" not in event
    error = _error(event[6:])
    assert (error["type"], error["code"]) == ("server_error", "upstream_error")
    assert error_event(message, mid_event=True) == b"\n\n" + event
