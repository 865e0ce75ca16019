"""Which answer a request deserves: routes, refusals, token counts.

Pure: number, time and chance arrive as arguments. The bodies themselves are made in `fake_bodies`.
"""

from __future__ import annotations

import hmac
import json
import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import orjson

from load_tester import fake_bodies
from load_tester.fake_behaviour import Behaviour
from load_tester.fake_bodies import Answer, Job, error

DEFAULT_COMPLETION_TOKENS = 16
MAX_COMPLETION_TOKENS = 1_000_000
MODEL_CREATED = 1_700_000_000


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it arrived. `path` is decoded and has no query; header names are in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes = b""
    keep_alive: bool = True
    chunked: bool = True  # whether the client understands chunked answers: HTTP/1.1


@dataclass(frozen=True, slots=True)
class _Route:
    make: Callable[[Job], Answer]
    required: tuple[str, ...]


ROUTES: Mapping[str, _Route] = MappingProxyType(
    {
        "/v1/chat/completions": _Route(fake_bodies.chat, ("messages",)),
        "/v1/completions": _Route(fake_bodies.completions, ("prompt",)),
        "/v1/embeddings": _Route(fake_bodies.embeddings, ("input",)),
        "/v1/responses": _Route(fake_bodies.responses, ("input",)),
        "/v1/rerank": _Route(fake_bodies.rerank, ("query", "documents")),
        "/v1/moderations": _Route(fake_bodies.moderations, ("input",)),
        "/v1/images/generations": _Route(fake_bodies.images, ("prompt",)),
        "/v1/audio/speech": _Route(fake_bodies.speech, ("input",)),
    }
)


def answer(request: Request, behaviour: Behaviour, *, serial: int, created: int, rng: random.Random) -> Answer:
    """The answer of a backend in good health. `serial` numbers the requests, `created` is Unix time in seconds."""
    if not _authorised(request, behaviour):
        return error(401, "Incorrect API key provided.", code="invalid_api_key")
    if request.path == "/v1/models" or request.path.startswith("/v1/models/"):
        return _wrong_method(request) if request.method != "GET" else _models(request.path, behaviour)
    route = ROUTES.get(request.path)
    if route is None:
        return error(404, f"Invalid URL ({request.method} {request.path})")
    if request.method != "POST":
        return _wrong_method(request)
    try:
        payload = _decoded(request.body)
    except ValueError:
        return error(400, "We could not parse the JSON body of your request.")
    if not isinstance(payload, dict):
        return error(400, "The body of the request must be a JSON object.")
    refusal = _refusal(payload, route, behaviour)
    if refusal is not None:
        return refusal
    return route.make(_job(request, payload, behaviour, serial, created, rng))


def _decoded(body: bytes) -> object:
    """The body's JSON value; big integers and NaN pass, as they do in many backends. Raises ValueError."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        pass
    try:
        return json.loads(body)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _authorised(request: Request, behaviour: Behaviour) -> bool:
    if not behaviour.api_key:
        return True
    given = request.headers.get("authorization", "")
    return hmac.compare_digest(given.encode(), f"Bearer {behaviour.api_key}".encode())


def _wrong_method(request: Request) -> Answer:
    return error(405, f"Not allowed to {request.method} on {request.path}.")


def _models(path: str, behaviour: Behaviour) -> Answer:
    cards = {
        model: {"id": model, "object": "model", "created": MODEL_CREATED, "owned_by": behaviour.name}
        for model in behaviour.models
    }
    wanted = path.removeprefix("/v1/models").removeprefix("/")
    if not wanted:
        return Answer(body=orjson.dumps({"object": "list", "data": list(cards.values())}))
    if wanted not in cards:
        return _no_such_model(wanted)
    return Answer(body=orjson.dumps(cards[wanted]))


def _no_such_model(model: str) -> Answer:
    return error(404, f"The model `{model}` does not exist.", param="model", code="model_not_found")


def _refusal(payload: Mapping[str, Any], route: _Route, behaviour: Behaviour) -> Answer | None:
    """The 4xx that this body deserves, if any."""
    for param in route.required:
        if payload.get(param) in (None, [], ""):
            return error(400, f"Missing required parameter: '{param}'.", param=param)
    model = payload.get("model")
    if model is not None and not (isinstance(model, str) and model.isprintable()):
        return error(400, "Invalid 'model': expected a string of printable characters.", param="model")
    if model and behaviour.models and model not in behaviour.models:
        return _no_such_model(model)
    if behaviour.usage_style == "reject_include_usage" and "stream_options" in payload:
        return error(400, "Unrecognized request argument supplied: stream_options", param="stream_options")
    return None


def _job(
    request: Request, payload: Mapping[str, Any], behaviour: Behaviour, serial: int, created: int, rng: random.Random
) -> Job:
    limit = _token_limit(payload)
    tokens = behaviour.completion_tokens or limit or DEFAULT_COMPLETION_TOKENS
    if behaviour.completion_sigma:
        sigma = behaviour.completion_sigma
        # Half the variance is taken off the exponent, so that the mean stays where it was set.
        tokens = round(tokens * math.exp(rng.gauss(0.0, sigma) - sigma * sigma / 2))
    tokens = max(1, min(tokens, limit or MAX_COMPLETION_TOKENS, MAX_COMPLETION_TOKENS))
    return Job(
        behaviour=behaviour,
        payload=payload,
        model=payload.get("model") or next(iter(behaviour.models), "fake-model"),
        serial=serial,
        created=created,
        prompt_tokens=behaviour.prompt_tokens or max(1, len(request.body) // 4),
        completion_tokens=tokens,
        finish_reason="length" if tokens == limit else "stop",
    )


def _token_limit(payload: Mapping[str, Any]) -> int:
    """The most tokens the client wants, 0 where it does not say."""
    for name in ("max_completion_tokens", "max_tokens", "max_output_tokens"):
        value = payload.get(name)
        if type(value) is int and value > 0:
            return value
    return 0
