"""The bodies and event streams of a fake backend, in the shapes of the OpenAI API.

Pure: each function makes an `Answer` of a `Job`. Which request deserves which answer is decided in `fake_answers`, how
an answer is framed, paced or broken in `fake_faults`.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson

from load_tester.fake_behaviour import Behaviour

MAX_DIMENSIONS = 4_096

# One word is one token. Some are not ASCII, so that every stream also exercises split UTF-8.
WORDS = ("Tokens", "flow", "where", "a", "wire", "leads", "—", "voilà", "¡más!", "日本", "🙂", "on", "and", "on.")
_PIECES = tuple(" " + word for word in WORDS)
# The smallest picture: one transparent pixel as PNG.
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
SPEECH = bytes(range(256)) * 16


class Event(NamedTuple):
    """One event of a stream, ready to be sent, and the completion tokens in it."""

    data: bytes
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole body, or a stream where `events` is set; `done` is then its closing marker.

    `paced` answers take the time of a generation; `completion_tokens` count for whole bodies, events bring their own.
    """

    status: int = 200
    body: bytes = b""
    content_type: str = "application/json"
    headers: tuple[str, ...] = ()
    events: Iterator[Event] | None = None
    done: bytes = b""
    paced: bool = False
    prompt_tokens: int = 0
    completion_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Job:
    """A request that will be served, with all that its answer needs. `created` is Unix time in seconds."""

    behaviour: Behaviour
    payload: Mapping[str, Any]
    model: str
    serial: int
    created: int
    prompt_tokens: int
    completion_tokens: int
    finish_reason: str

    def id(self, prefix: str) -> str:
        """An id in the manner of OpenAI, unique among the requests of this backend."""
        return f"{prefix}-{self.behaviour.name}-{self.serial}"

    @property
    def usage(self) -> dict[str, int] | None:
        """The usage object of a generation, None where the backend never reports."""
        if self.behaviour.usage_style == "never":
            return None
        prompt, completion = self.prompt_tokens, self.completion_tokens
        return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}

    @property
    def prompt_usage(self) -> dict[str, int] | None:
        """The usage object of an answer without completion tokens, None where the backend never reports."""
        if self.behaviour.usage_style == "never":
            return None
        return {"prompt_tokens": self.prompt_tokens, "total_tokens": self.prompt_tokens}


def error(
    status: int, message: str, *, kind: str = "invalid_request_error", param: str | None = None, code: str | None = None
) -> Answer:
    """An answer in the OpenAI error envelope."""
    detail = {"message": message, "type": kind, "param": param, "code": code}
    return Answer(status=status, body=orjson.dumps({"error": detail}))


def answer_text(tokens: int) -> str:
    """The text of an answer of that many tokens; the same for every request."""
    return _text(0, tokens)


def frame(payload: bytes, behaviour: Behaviour, name: str = "") -> bytes:
    """One server-sent event in the behaviour's spelling."""
    before, after = _frame_parts(behaviour, name)
    return before + payload + after


def _frame_parts(behaviour: Behaviour, name: str = "") -> tuple[bytes, bytes]:
    end = behaviour.line_ending.encode()
    gap = b" " if behaviour.data_space else b""
    first = b"event:" + gap + name.encode() + end if name else b""
    return first + b"data:" + gap, end + end


def _text(start: int, stop: int) -> str:
    text = "".join([_PIECES[i % len(_PIECES)] for i in range(start, stop)])
    return text if start else text[1:]


# --- chat and completions --------------------------------------------------------------------------------------------


class _Shape(NamedTuple):
    """What distinguishes the chunks of the two: everything around a piece of text and around the finish reason."""

    object: str
    prefix: str
    opening: bytes
    before: bytes
    after: bytes
    closing: bytes


_CHAT_CHUNK = _Shape(
    object="chat.completion.chunk",
    prefix="chatcmpl",
    opening=b'[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]',
    before=b'[{"index":0,"delta":{"content":',
    after=b'},"logprobs":null,"finish_reason":null}]',
    closing=b'[{"index":0,"delta":{},"logprobs":null,"finish_reason":"%s"}]',
)
_TEXT_CHUNK = _Shape(
    object="text_completion",
    prefix="cmpl",
    opening=b"",
    before=b'[{"index":0,"text":',
    after=b',"logprobs":null,"finish_reason":null}]',
    closing=b'[{"index":0,"text":"","logprobs":null,"finish_reason":"%s"}]',
)


def chat(job: Job) -> Answer:
    """POST /v1/chat/completions, streamed or not."""
    if job.payload.get("stream") is True:
        return _streamed(job, _chunks(job, _CHAT_CHUNK), with_done=True)
    message = {"role": "assistant", "content": answer_text(job.completion_tokens), "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": job.finish_reason}
    return _generated(job, _completion(job, "chatcmpl", "chat.completion", choice))


def completions(job: Job) -> Answer:
    """POST /v1/completions, streamed or not."""
    if job.payload.get("stream") is True:
        return _streamed(job, _chunks(job, _TEXT_CHUNK), with_done=True)
    text = answer_text(job.completion_tokens)
    choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": job.finish_reason}
    return _generated(job, _completion(job, "cmpl", "text_completion", choice))


def _completion(job: Job, prefix: str, kind: str, choice: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": job.id(prefix),
        "object": kind,
        "created": job.created,
        "model": job.model,
        "system_fingerprint": f"fp_{job.behaviour.name}",
        "choices": [choice],
        **_without_none(usage=job.usage),
    }


def _without_none(**values: object) -> dict[str, object]:
    return {name: value for name, value in values.items() if value is not None}


def _generated(job: Job, body: Mapping[str, Any]) -> Answer:
    return Answer(
        body=orjson.dumps(body),
        paced=True,
        prompt_tokens=job.prompt_tokens,
        completion_tokens=job.completion_tokens,
    )


def _streamed(job: Job, events: Iterator[Event], *, with_done: bool) -> Answer:
    return Answer(
        content_type="text/event-stream; charset=utf-8",
        headers=("cache-control: no-cache",),
        events=events,
        done=frame(b"[DONE]", job.behaviour) if with_done else b"",
        paced=True,
        prompt_tokens=job.prompt_tokens,
    )


def _chunks(job: Job, shape: _Shape) -> Iterator[Event]:
    """The events of a stream. Pieces are joined as bytes: this is the inner loop of every load test."""
    style, usage = job.behaviour.usage_style, orjson.dumps(job.usage)
    options = job.payload.get("stream_options")
    asked = isinstance(options, dict) and options.get("include_usage") is True
    start, end = _frame_parts(job.behaviour)
    head = {"id": job.id(shape.prefix), "object": shape.object, "created": job.created, "model": job.model}
    head_bytes = start + orjson.dumps(head)[:-1] + b',"choices":'
    tail = (b',"usage":null}' if asked and style == "every_chunk" else b"}") + end
    if shape.opening:
        yield Event(head_bytes + shape.opening + tail)
    before, after = head_bytes + shape.before, shape.after + tail
    step = job.behaviour.tokens_per_chunk
    for first in range(0, job.completion_tokens, step):
        stop = min(first + step, job.completion_tokens)
        yield Event(before + orjson.dumps(_text(first, stop)) + after, stop - first)
    if style == "with_choices":
        tail = b',"usage":' + usage + b"}" + end
    yield Event(head_bytes + shape.closing % job.finish_reason.encode() + tail)
    if style == "always" or (asked and style in ("final_chunk", "every_chunk")):
        yield Event(head_bytes + b'[],"usage":' + usage + b"}" + end)


# --- responses -------------------------------------------------------------------------------------------------------


def responses(job: Job) -> Answer:
    """POST /v1/responses, streamed or not."""
    if job.payload.get("stream") is True:
        return _streamed(job, _response_events(job), with_done=False)
    return _generated(job, _response(job, "completed", [_message(job, "completed")], with_usage=True))


def _response(job: Job, status: str, output: Sequence[object], *, with_usage: bool = False) -> dict[str, Any]:
    prompt, completion = job.prompt_tokens, job.completion_tokens
    usage = {
        "input_tokens": prompt,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": completion,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": prompt + completion,
    }
    return {
        "id": job.id("resp"),
        "object": "response",
        "created_at": job.created,
        "status": status,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "max_output_tokens": None,
        "model": job.model,
        "output": output,
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "usage": usage if with_usage and job.behaviour.usage_style != "never" else None,
    }


def _message(job: Job, status: str) -> dict[str, Any]:
    content = [_part(answer_text(job.completion_tokens))] if status == "completed" else []
    return {"id": job.id("msg"), "type": "message", "status": status, "role": "assistant", "content": content}


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": []}


def _response_events(job: Job) -> Iterator[Event]:
    """The event sequence of the responses API, each with a name and a running number."""
    place = {"item_id": job.id("msg"), "output_index": 0, "content_index": 0}
    text, step = answer_text(job.completion_tokens), job.behaviour.tokens_per_chunk
    number = 0

    def event(kind: str, values: Mapping[str, object], tokens: int = 0) -> Event:
        nonlocal number
        payload = orjson.dumps({"type": kind, "sequence_number": number, **values})
        number += 1
        return Event(frame(payload, job.behaviour, kind), tokens)

    started = {"response": _response(job, "in_progress", [])}
    yield event("response.created", started)
    yield event("response.in_progress", started)
    yield event("response.output_item.added", {"output_index": 0, "item": _message(job, "in_progress")})
    yield event("response.content_part.added", {**place, "part": _part("")})
    for first in range(0, job.completion_tokens, step):
        stop = min(first + step, job.completion_tokens)
        yield event("response.output_text.delta", {**place, "delta": _text(first, stop)}, stop - first)
    message = _message(job, "completed")
    yield event("response.output_text.done", {**place, "text": text})
    yield event("response.content_part.done", {**place, "part": _part(text)})
    yield event("response.output_item.done", {"output_index": 0, "item": message})
    yield event("response.completed", {"response": _response(job, "completed", [message], with_usage=True)})


# --- answers that are not generated text -----------------------------------------------------------------------------


def _items(value: object) -> list[Any]:
    """The inputs of a request that takes one or a list of them; a list of token ids is one input."""
    if not isinstance(value, list) or all(isinstance(item, int) for item in value):
        return [value]
    return value


def _prompt_only(job: Job, body: Mapping[str, Any]) -> Answer:
    return Answer(body=orjson.dumps(body), paced=True, prompt_tokens=job.prompt_tokens)


def embeddings(job: Job) -> Answer:
    """POST /v1/embeddings, as numbers or base64."""
    asked = job.payload.get("dimensions")
    size = min(asked, MAX_DIMENSIONS) if type(asked) is int and asked > 0 else 8
    as_text = job.payload.get("encoding_format") == "base64"
    data = []
    for index, _ in enumerate(_items(job.payload["input"])):
        vector = [((index * 7 + j * 3) % 17 - 8) / 16 for j in range(size)]
        coded = base64.b64encode(struct.pack(f"<{size}f", *vector)).decode() if as_text else vector
        data.append({"object": "embedding", "index": index, "embedding": coded})
    body = {"object": "list", "data": data, "model": job.model, **_without_none(usage=job.prompt_usage)}
    return _prompt_only(job, body)


def rerank(job: Job) -> Answer:
    """POST /v1/rerank: the documents in the order given, with falling scores."""
    top = job.payload.get("top_n")
    count = len(_items(job.payload["documents"]))
    if type(top) is int and top > 0:
        count = min(count, top)
    results = [{"index": index, "relevance_score": 1 / (1 + index)} for index in range(count)]
    body = {"id": job.id("rerank"), "model": job.model, "results": results, **_without_none(usage=job.prompt_usage)}
    return _prompt_only(job, body)


def moderations(job: Job) -> Answer:
    """POST /v1/moderations: nothing is ever flagged."""
    topics = ("harassment", "hate", "self-harm", "sexual", "violence")
    result = {
        "flagged": False,
        "categories": dict.fromkeys(topics, False),
        "category_scores": dict.fromkeys(topics, 0.0001),
    }
    results = [result for _ in _items(job.payload["input"])]
    return _prompt_only(job, {"id": job.id("modr"), "model": job.model, "results": results})


def images(job: Job) -> Answer:
    """POST /v1/images/generations: the smallest picture."""
    count = job.payload.get("n")
    pictures = [{"b64_json": PIXEL}] * (min(count, 10) if type(count) is int and count > 0 else 1)
    return _prompt_only(job, {"created": job.created, "data": pictures})


def speech(job: Job) -> Answer:
    """POST /v1/audio/speech: bytes of every value, no sound."""
    return Answer(body=SPEECH, content_type="audio/mpeg", paced=True, prompt_tokens=job.prompt_tokens)
