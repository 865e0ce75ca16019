"""The control plane's client: asks an endpoint for its models and says in words how that went.

Never on the path of a request, but over the same kind of connection: it finds what a request would find, and costs as
little. Trouble is an answer here, not an exception. What an operator reads holds nothing of an answer's text, which may
echo the key.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal
from typing import Protocol as Interface

import orjson

from balancer.core.endpoints import Endpoint
from balancer.core.errors import ConnectError, ProtocolError, UpstreamError
from balancer.upstream.connections import Connections
from balancer.upstream.targets import Proxies, target_of

MAX_BODY_BYTES = 4 * 2**20
MAX_MODELS = 10_000
MAX_ID_LENGTH = 256

Verdict = Literal["ok", "credentials", "no_models_route", "unreachable", "timeout", "redirect", "not_openai", "error"]
Model = Mapping[str, Any]

_NO_ROUTE_STATUSES = (404, 405, 501)
_HEADERS = b"accept: application/json\r\naccept-encoding: identity\r\nuser-agent: llm-balancer\r\n"
# Connecting ends a little before the whole exchange does, so that what took too long can be told.
_CONNECT_SHARE = 0.98
# There is one limit for the whole exchange; that between two bytes must never be the shorter one.
_LONG_SECONDS = 86_400.0


class Answer(Interface):
    """An answer whose head has arrived; `headers` have names in lower case."""

    @property
    def status(self) -> int:
        """The HTTP status."""

    @property
    def headers(self) -> Sequence[tuple[bytes, bytes]]:
        """The header fields in the order received."""

    async def read(self) -> bytes | None:
        """What has arrived of the body; b"" at its end. Raises UpstreamError."""

    def close(self) -> None:
        """Let go of the connection."""


class Network(Interface):
    """What exchanges are made over: `Connections`, or a stand-in for them."""

    async def open(self, endpoint: Endpoint, path: bytes, headers: bytes, body: bytes, *, method: bytes) -> Answer:
        """Send a request and return when the head of its answer has come. Raises UpstreamError."""

    def forget(self, endpoint_id: int) -> None:
        """Keep nothing of that endpoint."""

    async def close(self) -> None:
        """Close every connection."""


@dataclass(frozen=True, slots=True)
class ModelsAnswer:
    """How GET /models went.

    `status` is None where no HTTP answer came. `models` are as the endpoint sent them, each with a string `id`, no id
    twice. `reason` is for an operator and holds no secret; `latency_seconds` runs to the end of the answer.
    """

    verdict: Verdict
    reason: str
    status: int | None = None
    models: tuple[Model, ...] = ()
    latency_seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether a list of models came, be it empty."""
        return self.verdict == "ok"

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of the models, in the order given."""
        return tuple(model["id"] for model in self.models)


class ControlClient:
    """Talks to endpoints outside the data plane, each time over a new connection: it must show that one can be made.

    `timeout_seconds` bounds a whole exchange. `environ` holds the proxy variables; default: the process's. `ca_file`
    replaces the system's certificate authorities. `allow_link_local` as for `Connections`. A
    `network` stands in for the real one.
    """

    def __init__(
        self,
        *,
        timeout_seconds: float = 5.0,
        environ: Mapping[str, str] | None = None,
        ca_file: str | None = None,
        allow_link_local: bool = False,
        network: Network | None = None,
    ) -> None:
        self._timeout_seconds = timeout_seconds
        self._network: Network = network or Connections(
            max_keepalive=0,
            connect_timeout_seconds=timeout_seconds * _CONNECT_SHARE,
            environ=os.environ if environ is None else environ,
            ca_file=ca_file,
            allow_link_local=allow_link_local,
        )

    async def models(self, endpoint: Endpoint) -> ModelsAnswer:
        """Asks for the models the endpoint lists; whatever the network does, there is an answer in time."""
        started_at = time.monotonic()
        progress = _Progress()
        try:
            async with asyncio.timeout(self._timeout_seconds):
                answer = await self._ask(endpoint, progress)
        except TimeoutError:
            answer = ModelsAnswer("timeout", f"{progress.words} within {self._timeout_seconds:g} s", progress.status)
        return replace(answer, latency_seconds=time.monotonic() - started_at)

    async def close(self) -> None:
        """Closes the connections."""
        await self._network.close()

    async def _ask(self, endpoint: Endpoint, progress: _Progress) -> ModelsAnswer:
        patient = replace(endpoint, timeout=_LONG_SECONDS)
        try:
            answer = await self._network.open(patient, b"/models", _HEADERS, b"", method=b"GET")
            try:
                progress.status = answer.status
                return await _judged(answer, endpoint)
            finally:
                answer.close()
        except UpstreamError as error:
            return replace(_trouble(error, endpoint, progress), status=progress.status)
        except (OSError, ValueError):  # from reading the certificates; the network's own are UpstreamError
            return ModelsAnswer("error", "the certificate authorities cannot be read")
        finally:
            self._network.forget(endpoint.id)


class _Progress:
    """How far an exchange has come, for the words about a timeout."""

    def __init__(self) -> None:
        self.status: int | None = None
        self.connected = True

    @property
    def words(self) -> str:
        """What did not happen in time."""
        if self.status is not None:
            return "the answer did not end"
        return "connected, but no answer" if self.connected else "no connection"


async def _judged(answer: Answer, endpoint: Endpoint) -> ModelsAnswer:
    status, headers = answer.status, {name: value.decode("latin-1").lower() for name, value in answer.headers}
    if not 200 <= status < 300:
        verdict, reason = _refusal(status, headers, endpoint)
        return ModelsAnswer(verdict, reason, status)
    if headers.get(b"content-encoding", "identity") != "identity":
        return ModelsAnswer("not_openai", "answered in a content coding that was not asked for", status)
    body = bytearray()
    while chunk := await answer.read():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            return ModelsAnswer("not_openai", "answered more than 4 MB: no list of models is that long", status)
    try:
        # Strictly, so that what comes out of here can always be written as JSON again.
        models = models_in(orjson.loads(body))
    except orjson.JSONDecodeError:
        return ModelsAnswer("not_openai", _not_json(headers, body), status)
    if models is None:
        return ModelsAnswer("not_openai", "answered JSON, but no list of models", status)
    count = {0: "lists no models", 1: "lists 1 model"}.get(len(models), f"lists {len(models)} models")
    return ModelsAnswer("ok", f"reachable, {count}", status, models)


def _refusal(status: int, headers: Mapping[bytes, str], endpoint: Endpoint) -> tuple[Verdict, str]:
    """What an answer that is not a 2xx means. Quotes nothing of it: an endpoint may echo the key."""
    if status in (401, 403):
        return "credentials", f"the key was refused ({status})" if endpoint.api_key else f"a key is needed ({status})"
    if status == 402:
        return "credentials", "the account has to pay first (402)"
    if status == 407:
        return "unreachable", "the proxy asks for credentials (407)"
    if status == 429:
        return "error", "throttled: too many requests (429)"
    if 300 <= status < 400:
        to_tls = endpoint.base_url.startswith("http:") and headers.get(b"location", "").startswith("https:")
        return "redirect", f"answered a redirect ({status}){' to https' if to_tls else ''}: check the base URL"
    if status in _NO_ROUTE_STATUSES:
        hint = "" if endpoint.base_url.endswith("/v1") else "; base URLs usually end in /v1"
        return "no_models_route", f"answered {status} to GET /models: reachable, but lists no models{hint}"
    return "error", f"answered {status} to GET /models"


def _not_json(headers: Mapping[bytes, str], body: bytes | bytearray) -> str:
    if not body:
        return "answered without a body"
    if "html" in headers.get(b"content-type", "") or body.lstrip().startswith(b"<"):
        return "answered HTML: is this the right base URL? it usually ends in /v1"
    return "answered something that is not JSON: is this the right base URL? it usually ends in /v1"


def models_in(value: object) -> tuple[Model, ...] | None:
    """The models in a decoded answer, None where it is no list of models.

    Takes OpenAI's `{"data": [{"id"}]}`, Ollama's `{"models": [{"name"}]}` and a bare list, of objects or of names.
    Entries without a usable id are left out, as are repeated ids; at most 10,000 remain.
    """
    entries = _entries(value)
    if entries is None:
        return None
    models: dict[str, Model] = {}
    for entry in entries:
        model = _model(entry)
        if model is not None:
            models.setdefault(model["id"], model)
        if len(models) == MAX_MODELS:
            break
    return tuple(models.values()) if models or not entries else None


def _entries(value: object) -> list[object] | None:
    if isinstance(value, list):
        return value
    if not isinstance(value, dict):
        return None
    for name in ("data", "models"):
        if isinstance(value.get(name), list):
            entries: list[object] = value[name]
            return entries
    # Some backends write an empty list as null.
    return [] if value.get("object") == "list" and value.get("data", 0) is None else None


def _model(entry: object) -> Model | None:
    if isinstance(entry, str):
        entry = {"id": entry, "object": "model"}
    if not isinstance(entry, dict):
        return None
    for name in ("id", "name", "model"):
        found = entry.get(name)
        if isinstance(found, str) and 0 < len(found) <= MAX_ID_LENGTH and found.isprintable():
            return entry if name == "id" else {**entry, "id": found}
    return None


def _trouble(error: UpstreamError, endpoint: Endpoint, progress: _Progress) -> ModelsAnswer:
    """The words for an exchange that got no answer, or not all of it. Raises TimeoutError where it took too long."""
    try:
        target = target_of(endpoint.base_url, Proxies({}))
    except ConnectError as unusable:
        return ModelsAnswer("error", str(unusable))
    place = f"[{target.host}]:{target.port}" if ":" in target.host else f"{target.host}:{target.port}"
    if not isinstance(error, ConnectError):
        hint = "; is it https rather than http?" if isinstance(error, ProtocolError) and not target.tls else ""
        return ModelsAnswer("error", f"{error} at {place}{hint}")
    cause = error.__cause__
    if isinstance(cause, TimeoutError) and cause.errno is None:
        progress.connected = False
        raise TimeoutError from error
    if str(error).startswith("api_key: "):
        return ModelsAnswer("error", str(error))
    if str(error).startswith("proxy: "):
        return ModelsAnswer("unreachable", str(error))
    is_plain = isinstance(cause, ssl.SSLError) and cause.reason == "WRONG_VERSION_NUMBER"
    return ModelsAnswer("unreachable", f"{error} at {place}{'; is it http rather than https?' if is_plain else ''}")
