"""The control plane's HTTP client: asks an endpoint for its models and says in words how that went.

Never on the path of a request. Trouble is an answer here, not an exception. What an operator reads is written in this
module, never taken from a library's message, which may quote a header and with it the key.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, Literal

import httpx
import orjson

from balancer.core.endpoints import Endpoint
from balancer.core.errors import ConnectError
from balancer.upstream.targets import Proxies, Target, target_of

MAX_BODY_BYTES = 4 * 2**20
MAX_MODELS = 10_000
MAX_ID_LENGTH = 256

Verdict = Literal["ok", "credentials", "no_models_route", "unreachable", "timeout", "redirect", "not_openai", "error"]
Model = Mapping[str, Any]

_OS_WORDS = {
    errno.ECONNREFUSED: "connection refused",
    errno.ECONNRESET: "connection reset",
    errno.EHOSTUNREACH: "host unreachable",
    errno.ENETUNREACH: "network unreachable",
    errno.ETIMEDOUT: "connecting timed out",
}
_NO_ROUTE_STATUSES = (404, 405, 501)
# What making a client raises where the environment names proxies or certificates that cannot be used.
_UNUSABLE = (ValueError, ImportError, OSError)


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
    """Talks to endpoints outside the data plane, through the proxies that the environment names.

    `timeout_seconds` bounds a whole exchange. `ca_file` replaces the system's certificate authorities. A `transport`
    stands in for the network, proxies included.
    """

    def __init__(
        self,
        *,
        timeout_seconds: float = 5.0,
        ca_file: str | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._timeout_seconds = timeout_seconds
        self._ca_file = ca_file
        self._transport = transport
        self._no_proxies = Proxies({})  # httpx finds those of the environment itself
        self._clients: dict[bool, httpx.AsyncClient] = {}

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

    def prepare(self) -> None:
        """Loads the certificate authorities now, since it takes a while in which nothing else runs."""
        with suppress(*_UNUSABLE):
            self._client(verify_tls=True)

    async def close(self) -> None:
        """Closes the connections; used again, the client makes new ones."""
        clients, self._clients = self._clients, {}
        for client in clients.values():
            await client.aclose()

    async def _ask(self, endpoint: Endpoint, progress: _Progress) -> ModelsAnswer:
        try:
            target = target_of(endpoint.base_url, self._no_proxies)
        except ConnectError as error:
            return ModelsAnswer("error", str(error))
        url = f"{endpoint.base_url}/models"
        # As bytes: a key that is not ASCII is the endpoint's to refuse.
        bearer = f"Bearer {endpoint.api_key}".encode(errors="replace")
        headers = {b"authorization": bearer} if endpoint.api_key else {}
        try:
            client = self._client(endpoint.verify_tls)
        except _UNUSABLE:
            return ModelsAnswer("error", "the proxy or the certificates named in the environment cannot be used")
        try:
            async with client.stream("GET", url, headers=headers, extensions={"trace": progress.trace}) as response:
                progress.status = response.status_code
                return await _judged(response, endpoint)
        except httpx.TimeoutException as error:
            raise TimeoutError from error
        except httpx.InvalidURL:
            return ModelsAnswer("error", "base_url: not a valid URL")
        except (httpx.TransportError, OSError) as error:  # some TLS alerts reach us as they are
            return replace(_trouble(error, target), status=progress.status)

    def _client(self, verify_tls: bool) -> httpx.AsyncClient:
        client = self._clients.get(verify_tls)
        if client is None:
            client = self._clients[verify_tls] = httpx.AsyncClient(
                verify=self._tls_context(verify_tls),
                transport=self._transport,
                timeout=None,  # noqa: S113 (one limit for the whole exchange is set around it)
                follow_redirects=False,
                # A probe must show whether a connection can be made now, not whether an old one still lives.
                limits=httpx.Limits(max_connections=None, max_keepalive_connections=0),
                # Cookies know no ports: one endpoint's would go to the next on the same host.
                cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
                headers={"accept": "application/json", "accept-encoding": "identity", "user-agent": "llm-balancer"},
            )
        return client

    def _tls_context(self, verify_tls: bool) -> ssl.SSLContext:
        if verify_tls:
            # The system's authorities, as in the data plane, where httpx would bring its own.
            return ssl.create_default_context(cafile=self._ca_file)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context


class _Progress:
    """How far an exchange has come, for the words about a timeout."""

    def __init__(self) -> None:
        self.words = "no connection"
        self.status: int | None = None

    async def trace(self, event: str, _: Mapping[str, Any]) -> None:
        """Called by httpx at each stage."""
        if event == "http11.send_request_headers.started":
            self.words = "connected, but no answer"
        elif event == "http11.receive_response_headers.complete":
            self.words = "the answer did not end"


async def _judged(response: httpx.Response, endpoint: Endpoint) -> ModelsAnswer:
    status = response.status_code
    if not response.is_success:
        verdict, reason = _refusal(response, endpoint)
        return ModelsAnswer(verdict, reason, status)
    coding = response.headers.get("content-encoding", "identity").lower()
    if coding != "identity":
        return ModelsAnswer("not_openai", "answered in a content coding that was not asked for", status)
    body = bytearray()
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            return ModelsAnswer("not_openai", "answered more than 4 MB: no list of models is that long", status)
    try:
        # Strictly, so that what comes out of here can always be written as JSON again.
        models = models_in(orjson.loads(body))
    except orjson.JSONDecodeError:
        return ModelsAnswer("not_openai", _not_json(response, body), status)
    if models is None:
        return ModelsAnswer("not_openai", "answered JSON, but no list of models", status)
    count = {0: "lists no models", 1: "lists 1 model"}.get(len(models), f"lists {len(models)} models")
    return ModelsAnswer("ok", f"reachable, {count}", status, models)


def _refusal(response: httpx.Response, endpoint: Endpoint) -> tuple[Verdict, str]:
    """What an answer that is not a 2xx means. Quotes nothing of it: an endpoint may echo the key."""
    status = response.status_code
    if status in (401, 403):
        return "credentials", f"the key was refused ({status})" if endpoint.api_key else f"a key is needed ({status})"
    if status == 402:
        return "credentials", "the account has to pay first (402)"
    if status == 407:
        return "unreachable", "the proxy asks for credentials (407)"
    if status == 429:
        return "error", "throttled: too many requests (429)"
    if response.is_redirect or 300 <= status < 400:
        to_tls = response.url.scheme == "http" and response.headers.get("location", "").lower().startswith("https:")
        return "redirect", f"answered a redirect ({status}){' to https' if to_tls else ''}: check the base URL"
    if status in _NO_ROUTE_STATUSES:
        hint = "" if endpoint.base_url.endswith("/v1") else "; base URLs usually end in /v1"
        return "no_models_route", f"answered {status} to GET /models: reachable, but lists no models{hint}"
    return "error", f"answered {status} to GET /models"


def _not_json(response: httpx.Response, body: bytes | bytearray) -> str:
    if not body:
        return "answered without a body"
    if "html" in response.headers.get("content-type", "").lower() or body.lstrip().startswith(b"<"):
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


def _trouble(error: Exception, target: Target) -> ModelsAnswer:
    """The words for an exchange that got no answer, or not all of it."""
    place = f"[{target.host}]:{target.port}" if ":" in target.host else f"{target.host}:{target.port}"
    match error:
        case httpx.ConnectError():
            return ModelsAnswer("unreachable", f"{_connect_words(error, target)} at {place}")
        case httpx.ProxyError():
            return ModelsAnswer("unreachable", f"the proxy named in the environment does not lead to {place}")
        case httpx.LocalProtocolError():
            return ModelsAnswer("error", "the request cannot be sent: is there a line break in the key?")
        case httpx.RemoteProtocolError():
            hint = "" if target.tls else "; is it https rather than http?"
            return ModelsAnswer("error", f"{place} closed the connection early or does not speak HTTP{hint}")
        case ssl.SSLError():
            return ModelsAnswer("error", f"TLS failed ({_tls_reason(error)}) at {place}")
    return ModelsAnswer("error", f"the connection to {place} broke off")


def _connect_words(error: httpx.ConnectError, target: Target) -> str:
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"TLS certificate not trusted ({cause.verify_message})"
        if isinstance(cause, ssl.SSLError):
            hint = "; is it http rather than https?" if cause.reason == "WRONG_VERSION_NUMBER" else ""
            return f"TLS failed ({_tls_reason(cause)}{hint})"
        if isinstance(cause, socket.gaierror):
            return "name server not answering" if cause.errno == socket.EAI_AGAIN else "name not known"
        if isinstance(cause, OSError) and cause.errno is not None:
            return _OS_WORDS.get(cause.errno) or os.strerror(cause.errno).lower()
    return "connection closed during the TLS handshake" if target.tls else "no connection"


def _tls_reason(error: ssl.SSLError) -> str:
    return (error.reason or "handshake failed").replace("_", " ").lower()


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The errors behind an error, nearest first; the first of a group stands for all of them."""
    current: BaseException | None = error
    seen: set[int] = set()
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        if isinstance(current, BaseExceptionGroup):
            current = current.exceptions[0]
        else:
            current = current.__cause__ or current.__context__
