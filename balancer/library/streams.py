"""A chat whose text comes piece by piece. HTTP problems end it; they never raise, but stand in its result."""

from __future__ import annotations

import asyncio
import weakref
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Self

from balancer.core.errors import BalancerError, ProtocolError
from balancer.library.calls import Call
from balancer.library.results import ChatResult, StreamedChat, Unreadable, failed_chat, read_chat

# Makes the result of a call that failed: the error, or None where the endpoint's answer in these bytes is a refusal.
Failure = Callable[[Call, BalancerError | None, bytes], ChatResult]

_NOT_ENDED = "the stream has not ended yet"
_CLOSED = "the stream was closed before its end"


class AsyncChatStream:
    """The pieces of an answer's text, by `async for`. `result` is the whole of it once they have ended.

    Tasks may share it: each piece goes to one of them.
    Leaving it early gives the connection up, by `aclose`, by the end of an `async with`, or by dropping the stream.
    """

    def __init__(self, call: Call, failure: Failure) -> None:
        self._call = call
        self._failure = failure
        self._chat = StreamedChat()
        self._texts: deque[str] = deque()
        self._turn = asyncio.Lock()
        self._result: ChatResult | None = None
        self._drop = weakref.finalize(self, _give_up, asyncio.get_running_loop(), call)
        self._drop.atexit = False

    def __repr__(self) -> str:
        return f"<AsyncChatStream of {self.endpoint!r}{'' if self._result is None else ', ended'}>"

    @property
    def endpoint(self) -> str | None:
        """The name of the endpoint that answers; None when none does."""
        return self._call.endpoint or None

    @property
    def result(self) -> ChatResult:
        """As `chat` returns it without streaming. Before the end: what has come, and no success."""
        if self._result is not None:
            return self._result
        return failed_chat(_NOT_ENDED, self.endpoint, content="".join(self._chat.content))

    async def begin(self) -> None:
        """Wait for the beginning of the answer, or for the result that says why there is none."""
        call = self._call
        try:
            await call.open()
            if call.status < 300 and call.is_stream:
                return
            body = await call.read_all()
        except BalancerError as error:
            self._result = self._failure(call, error, b"")
            return
        if call.status >= 300:
            call.end()
            self._result = self._failure(call, None, body)
        else:
            self._take_whole(body)

    async def batch(self) -> list[str]:
        """The pieces that came since the last time, at least one; none at the end."""
        texts = list(self._texts)
        self._texts.clear()
        while not texts and self._result is None:
            try:
                chunk = await self._call.read()
            except BalancerError as error:
                self._result = self._kept(self._failure(self._call, error, b""))
                return []
            texts = self._chat.feed(chunk)
            if self._call.complete:
                texts += self._chat.finish()
            if self._chat.broken:
                self._result = self._kept(self._fault(f"broke off its answer: {self._chat.broken}"))
            elif self._call.complete:
                self._call.end()
                self._result = self._whole()
        return texts

    def _take_whole(self, body: bytes) -> None:
        """Some endpoints do not stream, whatever they are asked."""
        try:
            result = read_chat(body, self._call.endpoint, self._call.seconds)
        except Unreadable as problem:
            result = self._fault(str(problem))
        self._call.end()
        self._result = result
        if result["content"]:
            self._texts.append(result["content"])

    def _fault(self, words: str) -> ChatResult:
        """The endpoint's fault, which only reading its answer has shown."""
        error = ProtocolError(words)
        self._call.fail(error)
        return self._failure(self._call, error, b"")

    def _whole(self) -> ChatResult:
        chat = self._chat
        return {
            "success": True,
            "content": "".join(chat.content),
            "tool_calls": chat.tool_calls,
            "error": "",
            "usage": chat.usage,
            "endpoint": self._call.endpoint,
            "response_time": self._call.seconds,
        }

    def _kept(self, result: ChatResult) -> ChatResult:
        """A failure, with what had come before it."""
        return {**result, "content": "".join(self._chat.content)}

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> str:
        async with self._turn:
            if not self._texts:
                self._texts.extend(await self.batch())
            if not self._texts:
                raise StopAsyncIteration
            return self._texts.popleft()

    async def aclose(self) -> None:
        """Give the rest up; may be repeated."""
        self._call.abandon()
        self._texts.clear()
        if self._result is None:
            self._result = self._kept(failed_chat(_CLOSED, self.endpoint))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


def _give_up(loop: asyncio.AbstractEventLoop, call: Call) -> None:
    """Garbage is collected in any thread; the call belongs to the loop's."""
    if not call.over:
        with suppress(RuntimeError):  # the loop is closed, and everything on it
            loop.call_soon_threadsafe(call.abandon)
