"""A fake OpenAI-compatible backend on a real socket: for tests, demos and benchmarks, never for production.

It listens, counts and holds the present behaviour; the switchboard under /_fake/ changes it while running. Answers,
faults and HTTP are in the other `fake_` modules.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import sys
import time
from collections.abc import Iterator, Sequence

import orjson

from load_tester.fake_answers import Request, answer
from load_tester.fake_behaviour import Arguments, BadBehaviour, Behaviour, parse_arguments
from load_tester.fake_bodies import Answer, error
from load_tester.fake_faults import Step, after_fault, choose_fault, script
from load_tester.fake_http import CONTROL_PATH, Connection
from load_tester.fake_stats import Stats

if sys.platform != "win32":
    import uvloop

BACKLOG = 4_096
PORT_RETRY_SECONDS = 0.1


class FakeBackend:
    """One fake backend. `behaviour` may be replaced at any time and holds for the requests that follow.

    `fault_count` and `fault` in it count down and turn off as faults are committed.
    """

    def __init__(self, behaviour: Behaviour | None = None) -> None:
        self._initial = behaviour or Behaviour()
        self._behaviour = self._initial
        self._rng = random.Random(self._initial.seed)
        self.stats = Stats()
        self.host, self.port = "", 0
        self._serial = 0
        self._server: asyncio.Server | None = None
        self._connections: set[Connection] = set()
        self._all_gone: asyncio.Future[None] | None = None
        self._reopening: asyncio.Task[None] | None = None

    @property
    def behaviour(self) -> Behaviour:
        """How it answers now."""
        return self._behaviour

    @behaviour.setter
    def behaviour(self, new: Behaviour) -> None:
        old, self._behaviour = self._behaviour, new
        if new.seed != old.seed:
            self._rng = random.Random(new.seed)
        if new.fault == "refuse" and old.fault != "refuse" and self._server is not None:
            self._refuse()

    @property
    def base_url(self) -> str:
        """What to configure as base URL of an endpoint."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}/v1"

    async def listen(self, host: str = "127.0.0.1", port: int = 0) -> None:
        """Starts to accept connections; port 0 takes a free one. Raises OSError when the address cannot be had."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._connect, host, port, backlog=BACKLOG)
        self.host, self.port = host, self._server.sockets[0].getsockname()[1]
        if self._behaviour.fault == "refuse":
            self._refuse()

    async def stop_listening(self) -> None:
        """Refuses connections from now on and closes idle ones; answers in hand are finished, then closed."""
        self._cancel_reopening()
        self._close_port()

    async def listen_again(self) -> None:
        """Accepts connections again, at the same port; ends fault refuse. Raises OSError if the port was taken."""
        self._cancel_reopening()
        await self._open_port()

    async def close(self) -> None:
        """Stops listening, drops what is open and returns when no connection is left."""
        self._cancel_reopening()
        self._close_port()
        # A connection accepted just before has its protocol after one turn of the loop.
        await asyncio.sleep(0)
        for connection in tuple(self._connections):
            connection.abort()
        if self._connections:
            self._all_gone = asyncio.get_running_loop().create_future()
            await self._all_gone

    def slowdown(self) -> float:
        """The factor on all times under the present load."""
        return 1.0 + self._behaviour.slowdown_per_inflight * max(0, self.stats.inflight - 1)

    def respond(self, request: Request) -> Iterator[Step]:
        """What to do about a request; commits a fault where one is due."""
        if request.path.startswith(CONTROL_PATH):
            return script(self._control_answer(request), request, Behaviour(), "none", 0)
        behaviour = self._behaviour
        self._serial += 1
        created = int(time.time())
        reply = answer(request, behaviour, serial=self._serial, created=created, rng=self._rng)
        fault = choose_fault(request, behaviour, self._rng)
        if fault != "none":
            self.stats.faults += 1
            self._behaviour = after_fault(behaviour)
        return script(reply, request, behaviour, fault, self._serial)

    def closed(self, connection: Connection) -> None:
        """Called by a connection when it is gone."""
        self._connections.discard(connection)
        self.stats.connections -= 1
        if self._all_gone is not None and not self._connections and not self._all_gone.done():
            self._all_gone.set_result(None)

    def _connect(self) -> Connection:
        connection = Connection(self)
        self._connections.add(connection)
        self.stats.connections += 1
        return connection

    def _control_answer(self, request: Request) -> Answer:
        match request.method, request.path:
            case "GET", "/_fake/behaviour":
                return _json(self._behaviour.to_json())
            case "PATCH", "/_fake/behaviour":
                return self._patch(request.body)
            case "GET", "/_fake/stats":
                return _json(self.stats.to_json())
            case "GET", "/_fake/timings":
                return _json(list(self.stats.timings))
            case "POST", "/_fake/reset":
                self._reset()
                return _json(self._behaviour.to_json())
        return error(
            404, "There are GET and PATCH /_fake/behaviour, GET /_fake/stats and /_fake/timings, and POST /_fake/reset."
        )

    def _patch(self, body: bytes) -> Answer:
        try:
            changes = orjson.loads(body)
        except orjson.JSONDecodeError:
            return error(400, "The body is not JSON.")
        if not isinstance(changes, dict):
            return error(422, "The body must be a JSON object.")
        try:
            self.behaviour = self._behaviour.changed(changes)
        except BadBehaviour as problem:
            return error(422, str(problem), param=problem.field)
        return _json(self._behaviour.to_json())

    def _reset(self) -> None:
        self.stats.reset()
        self.behaviour = self._initial
        self._rng = random.Random(self._initial.seed)

    def _refuse(self) -> None:
        self._cancel_reopening()
        self._close_port()
        reopening = self._reopen(self._behaviour.refuse_seconds)
        self._reopening = asyncio.get_running_loop().create_task(reopening)

    async def _reopen(self, delay_seconds: float) -> None:
        """Opens the port after a delay; should somebody else hold it for the moment, as soon as it is free."""
        await asyncio.sleep(delay_seconds)
        while self._server is None:
            try:
                await self._open_port()
            except OSError:
                await asyncio.sleep(PORT_RETRY_SECONDS)

    async def _open_port(self) -> None:
        if self._behaviour.fault == "refuse":
            self._behaviour = self._behaviour.changed({"fault": "none"})
        if self._server is None:
            await self.listen(self.host, self.port)

    def _cancel_reopening(self) -> None:
        if self._reopening is not None:
            self._reopening.cancel()
            self._reopening = None

    def _close_port(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for connection in tuple(self._connections):
            connection.close_when_idle()


def _json(value: object) -> Answer:
    return Answer(body=orjson.dumps(value))


async def _serve(arguments: Arguments) -> int:
    """Runs one backend until it is told to stop; the exit status."""
    backend = FakeBackend(arguments.behaviour)
    try:
        await backend.listen(arguments.host, arguments.port)
    except OSError as problem:
        sys.stderr.write(f"cannot listen on {arguments.host}:{arguments.port}: {problem.strerror or problem}\n")
        return 1
    sys.stdout.write(f"fake backend {arguments.behaviour.name} at {backend.base_url}\n")
    sys.stdout.flush()
    stop = asyncio.Event()
    with contextlib.suppress(NotImplementedError):  # no signal handlers on Windows; there, an interrupt ends it
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await stop.wait()
    await backend.close()
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """The command `llm-fake-backend`. Returns the exit status; a bad argument exits with 2."""
    arguments = parse_arguments(argv)
    loop_factory = None if sys.platform == "win32" else uvloop.new_event_loop
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        return runner.run(_serve(arguments))


if __name__ == "__main__":
    sys.exit(main())
