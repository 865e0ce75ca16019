"""The balancer in a script, without asyncio: the same balancer, run by an event loop in a thread of its own."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, Self, TypeVar, cast, overload

from balancer.library.asynchronous import AsyncLoadBalancer, openai_client_module
from balancer.library.configuration import read_environment, read_file
from balancer.library.engine import Attempt
from balancer.library.portal import Closed, Portal
from balancer.library.results import ChatResult, EmbedResult
from balancer.library.statistics import Stats
from balancer.library.streams import AsyncChatStream
from balancer.library.values import BalancingStrategy, Endpoint

if TYPE_CHECKING:
    from openai import OpenAI

P = ParamSpec("P")
T = TypeVar("T")


class ChatStream:
    """The pieces of an answer's text, by `for`. `result` is the whole of it once they have ended.

    Threads may share it: each piece goes to one of them.
    Leaving it early gives the connection up, by `close`, by the end of a `with`, or by dropping the stream.
    """

    def __init__(self, portal: Portal, stream: AsyncChatStream) -> None:
        self._portal = portal
        self._stream = stream
        self._texts: deque[str] = deque()
        self._turn = threading.Lock()

    def __repr__(self) -> str:
        return repr(self._stream).replace("Async", "", 1)

    @property
    def endpoint(self) -> str | None:
        """The name of the endpoint that answers; None when none does."""
        return self._stream.endpoint

    @property
    def result(self) -> ChatResult:
        """As `chat` returns it without streaming. Before the end: what has come, and no success."""
        return self._stream.result

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> str:
        with self._turn:
            if not self._texts:
                self._texts.extend(self._portal.call(self._stream.batch))
            if not self._texts:
                raise StopIteration
            return self._texts.popleft()

    def close(self) -> None:
        """Give the rest up; may be repeated."""
        self._texts.clear()
        with suppress(Closed):  # then everything is given up already
            self._portal.call(self._stream.aclose)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class LoadBalancer:
    """Distributes calls over endpoints that speak the OpenAI API; any number of threads may call at once.

    The arguments are those of `AsyncLoadBalancer`, of which this is the synchronous face. Close it with `close()` or
    `with`; a script that forgets to ends nevertheless. Make it after a fork, not before.
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
        self._balancer = AsyncLoadBalancer(
            endpoints,
            strategy,
            enable_health_check,
            health_check_interval,
            retry_count,
            fallback_on_failure,
            timeout,
            max_wait_seconds=max_wait_seconds,
            on_attempt=on_attempt,
            environ=environ,
        )
        self._portal = Portal(self._balancer.close)
        self._portal.call(self._balancer.__aenter__)

    def __repr__(self) -> str:
        return repr(self._balancer).replace("Async", "", 1)

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
    def chat(
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
    def chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
        *,
        model: str | None = None,
        stream: Literal[True],
    ) -> ChatStream: ...

    def chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
        *,
        model: str | None = None,
        stream: bool = False,
    ) -> ChatResult | ChatStream:
        """Ask for the next message. HTTP problems do not raise: they are in the result, with `success` False.

        Without `model` each endpoint is asked for the first one that it lists. With `stream` the pieces of the text
        come by `for`, and the result is at the stream. Raises ValueError for what cannot be sent.
        """
        chat = self._balancer.chat
        if stream:
            streamed = self._portal.call(chat, messages, tools, temperature, max_tokens, model=model, stream=True)
            return ChatStream(self._portal, streamed)
        return self._portal.call(chat, messages, tools, temperature, max_tokens, model=model)

    def embed(self, texts: str | Sequence[str], *, model: str | None = None) -> EmbedResult:
        """Ask for the embeddings of one text or several. HTTP problems are in the result, as those of `chat`."""
        return self._portal.call(self._balancer.embed, texts, model=model)

    def models(self) -> list[str]:
        """The names of all models that any endpoint lists. Endpoints that do not tell are left out."""
        return self._portal.call(self._balancer.models)

    def as_openai_client(self, **options: Any) -> OpenAI:
        """The official client, whose requests are distributed by this balancer; `options` are the client's own.

        Raises ImportError where the package `openai` is not installed.
        """
        return cast("OpenAI", openai_client_module().sync_client(self._balancer.door, self._portal, options))

    # -- endpoints and numbers ---------------------------------------------------------------------------------------

    def get_stats(self) -> Stats:
        """How all attempts went so far, by endpoint and in all. Works after `close` too."""
        try:
            return self._portal.call(_run, self._balancer.get_stats)
        except Closed:
            return self._balancer.get_stats()

    def add_endpoint(self, endpoint: Endpoint) -> None:
        """Take one more into the choice, at once."""
        self._portal.call(_run, self._balancer.add_endpoint, endpoint)

    def remove_endpoint(self, url: str) -> bool:
        """Take those with that URL out of the choice; what runs there finishes. Whether there were any."""
        return self._portal.call(_run, self._balancer.remove_endpoint, url)

    def close(self) -> None:
        """Cut what runs, close every connection and end the thread; may be repeated."""
        self._portal.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


async def _run(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """`work`, on the event loop's thread: the pool's numbers are that one's alone."""
    return work(*args, **kwargs)
