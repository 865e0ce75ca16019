"""The balancer in a script, for asyncio: endpoints in, answers out. `LoadBalancer` is its synchronous face."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar, cast, overload

from balancer.core.errors import BalancerError, ProtocolError
from balancer.dispatch.verdicts import judge_status
from balancer.library.calls import Call
from balancer.library.configuration import Options, read_environment, read_file
from balancer.library.door import Door
from balancer.library.engine import Attempt, Engine
from balancer.library.requests import chat_request, embeddings_request
from balancer.library.results import (
    ChatResult,
    EmbedResult,
    Unreadable,
    failed_chat,
    read_chat,
    read_embeddings,
    reason_of,
    refusal_in,
)
from balancer.library.statistics import Stats
from balancer.library.streams import AsyncChatStream
from balancer.library.values import BalancingStrategy, Endpoint, listed_endpoints

if TYPE_CHECKING:
    from openai import AsyncOpenAI

Result = TypeVar("Result")

_CLOSED_MEANWHILE = "the balancer was closed meanwhile"


class AsyncLoadBalancer:
    """Distributes calls over endpoints that speak the OpenAI API.

    A failed call goes to `retry_count` further endpoints, each once, unless `fallback_on_failure` is off. `timeout`,
    in seconds, is the longest silence of an endpoint; `max_wait_seconds` the longest wait for room, where all have
    `max_connections` in use or are throttled. With `enable_health_check` every endpoint is asked for its models each
    `health_check_interval` seconds.
    `on_attempt` is told of every attempt when it has ended, on the event loop's thread: it should return soon.
    `environ` holds the proxy variables; default: the process's. Raises ValueError for what cannot be used.

    It belongs to the event loop it is first used on. Close it with `await close()` or `async with`.
    """

    def __init__(
        self,
        endpoints: Iterable[Endpoint],
        strategy: BalancingStrategy | str = BalancingStrategy.ROUND_ROBIN,
        enable_health_check: bool = True,
        health_check_interval: float = 30,
        retry_count: int = 2,
        fallback_on_failure: bool = True,
        timeout: float = 60,
        *,
        max_wait_seconds: float = 600,
        on_attempt: Callable[[Attempt], object] | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        options = Options(
            listed_endpoints(endpoints),
            BalancingStrategy(strategy),
            enable_health_check,
            health_check_interval,
            retry_count,
            fallback_on_failure,
            timeout,
            max_wait_seconds,
        )
        self._engine = Engine(options, on_attempt, os.environ if environ is None else environ)
        self.door = Door(self._engine)  # where HTTP clients inside the script knock

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self._engine!r}>"

    @classmethod
    def from_env(cls, **more: Any) -> Self:
        """As the variables LLM_* say; `more` are further arguments. Raises ValueError."""
        return cls(**read_environment(os.environ) | more)

    @classmethod
    def from_config(cls, path: str | os.PathLike[str], **more: Any) -> Self:
        """As a YAML or JSON file says; `more` are further arguments. Raises OSError or ValueError."""
        return cls(**read_file(path) | more)

    # -- calls -------------------------------------------------------------------------------------------------------

    @overload
    async def chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
        *,
        model: str | None = None,
        stream: Literal[False] = False,
    ) -> ChatResult: ...

    @overload
    async def chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
        *,
        model: str | None = None,
        stream: Literal[True],
    ) -> AsyncChatStream: ...

    async def chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
        *,
        model: str | None = None,
        stream: bool = False,
    ) -> ChatResult | AsyncChatStream:
        """Ask for the next message. HTTP problems do not raise: they are in the result, with `success` False.

        Without `model` each endpoint is asked for the first one that it lists. With `stream` the pieces of the text
        come by `async for`, and the result is at the stream. Raises ValueError for what cannot be sent.
        """
        self._engine.start()
        request = chat_request(messages, tools, temperature, max_tokens, model, stream=stream)
        call = self._engine.call(request, verbatim=True)
        if stream:
            streamed = AsyncChatStream(call, self._failed_chat)
            await streamed.begin()
            return streamed
        return await _result(call, read_chat, self._failed_chat)

    async def embed(self, texts: str | Sequence[str], *, model: str | None = None) -> EmbedResult:
        """Ask for the embeddings of one text or several. HTTP problems are in the result, as those of `chat`."""
        self._engine.start()
        call = self._engine.call(embeddings_request(texts, model), verbatim=True)
        return await _result(call, read_embeddings, self._failed_embed)

    async def models(self) -> list[str]:
        """The names of all models that any endpoint lists. Endpoints that do not tell are left out."""
        self._engine.start()
        return [cast(str, model["id"]) for model in await self._engine.models()]

    def as_openai_client(self, **options: Any) -> AsyncOpenAI:
        """The official client, whose requests are distributed by this balancer; `options` are the client's own.

        Raises ImportError where the package `openai` is not installed.
        """
        return cast("AsyncOpenAI", openai_client_module().async_client(self.door, options))

    # -- endpoints and numbers ---------------------------------------------------------------------------------------

    def get_stats(self) -> Stats:
        """How all attempts went so far, by endpoint and in all."""
        return self._engine.stats()

    def add_endpoint(self, endpoint: Endpoint) -> None:
        """Take one more into the choice, at once."""
        if not isinstance(endpoint, Endpoint):
            raise ValueError(f"endpoint must be an Endpoint, not {type(endpoint).__name__}")  # noqa: TRY004
        self._engine.add(endpoint)

    def remove_endpoint(self, url: str) -> bool:
        """Take those with that URL out of the choice; what runs there finishes. Whether there were any."""
        return self._engine.remove(url)

    async def close(self) -> None:
        """Cut what runs and close every connection; may be repeated."""
        await self._engine.close()

    async def __aenter__(self) -> Self:
        self._engine.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    # -- what went wrong ---------------------------------------------------------------------------------------------

    def _failed_chat(self, call: Call, error: BalancerError | None, body: bytes) -> ChatResult:
        return failed_chat(*self._told(call, error, body))

    def _failed_embed(self, call: Call, error: BalancerError | None, body: bytes) -> EmbedResult:
        words, endpoint = self._told(call, error, body)
        return {"success": False, "embeddings": [], "error": words, "usage": {}, "endpoint": endpoint}

    def _told(self, call: Call, error: BalancerError | None, body: bytes) -> tuple[str, str | None]:
        """The reason, and the endpoint that it speaks of: None where others were tried in vain, or none could be."""
        if error is not None and self._engine.closed:
            return _CLOSED_MEANWHILE, call.blamed or None
        if error is not None and not call.blamed:
            return reason_of(error), None
        reason = f"endpoint {call.blamed!r}: {refusal_in(call.status, body) if error is None else reason_of(error)}"
        # What went wrong after an answer had begun, or is the call's own fault, was tried nowhere else.
        is_final = bool(call.endpoint) if error is not None else not judge_status(call.status).elsewhere
        if is_final or not self._engine.options.fallback_on_failure:
            return reason, call.blamed
        return f"all endpoints failed; last error: {reason}", None


async def _result(
    call: Call,
    read: Callable[[bytes, str, float], Result],
    failure: Callable[[Call, BalancerError | None, bytes], Result],
) -> Result:
    try:
        await call.open()
        body = await call.read_all()
        if call.status >= 300:
            call.end()
            return failure(call, None, body)
        result = read(body, call.endpoint, call.seconds)
    except BalancerError as error:
        return failure(call, error, b"")
    except Unreadable as problem:
        fault = ProtocolError(str(problem))
        call.fail(fault)
        return failure(call, fault, b"")
    call.end()
    return result


def openai_client_module() -> Any:
    """The part that needs the package `openai`. Raises ImportError, which says how to get it."""
    try:
        return importlib.import_module("balancer.library.openai_client")
    except ModuleNotFoundError as error:
        if error.name not in ("openai", "httpx"):
            raise
        raise ImportError(f"as_openai_client() needs the package {error.name}: pip install {error.name}") from None
