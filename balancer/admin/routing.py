"""The whole over the admin API: its state, the routing mode, the canvas, and a new period of counting."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pydantic import TypeAdapter
from starlette.responses import Response

from balancer.admin.answers import Done, Routing, State
from balancer.admin.configuration import LiveConfiguration
from balancer.admin.gate import Body, Call, Operation
from balancer.admin.models import IncomingPosition, Layout, Place, RoutingChange
from balancer.admin.problems import answer
from balancer.admin.state import StateReader
from balancer.admin.turns import Turns
from balancer.auth import ClientTokens
from balancer.core.pool import EndpointPool
from balancer.store import Position, SetRoutingMode, UsageWriter
from balancer.traffic import Traffic


class RoutingOperations:
    """What can be done with the balancer as a whole. Without a `writer`, resets are stored with the next usage."""

    def __init__(
        self,
        configuration: LiveConfiguration,
        reader: StateReader,
        *,
        pool: EndpointPool,
        traffic: Traffic,
        tokens: ClientTokens,
        clock: Callable[[], float],
        writer: UsageWriter | None,
    ) -> None:
        self._configuration = configuration
        self._reader = reader
        self._pool = pool
        self._traffic = traffic
        self._tokens = tokens
        self._clock = clock
        self._writer = writer
        self._turns = Turns()

    def operations(self) -> list[Operation]:
        """The table of these operations."""
        routing, layout = Body(TypeAdapter(RoutingChange)), Body(TypeAdapter(Layout))
        incoming = Body(TypeAdapter(IncomingPosition))
        return [
            Operation("GET", "/state", "Everything at this moment", self._state, State),
            Operation(
                "PATCH",
                "/routing",
                "Choose the routing mode",
                self._set_routing,
                Routing,
                (503,),
                routing,
                conditional=True,
            ),
            Operation("POST", "/reset-stats", "Begin a new period of counting", self._reset, Done),
            Operation("PATCH", "/incoming-pos", "Move the incoming node", self._move_incoming, Done, (503,), incoming),
            Operation("PATCH", "/layout", "Move any nodes", self._move, Done, (404, 503), layout),
        ]

    async def settle(self) -> None:
        """Wait until every move under way has ended, before the store is closed."""
        await self._turns.settle()

    async def _state(self, _: Call) -> Response:
        state = self._reader.state()
        return answer(state, revision=state.revision)

    async def _set_routing(self, call: Call) -> Response:
        wanted: RoutingChange = call.body
        applied = await self._configuration.change(
            [SetRoutingMode(wanted.routing_mode)], actor=call.actor, expected_revision=call.expected_revision
        )
        return answer(Routing(applied.after.routing_mode), revision=applied.after.revision)

    async def _move_incoming(self, call: Call) -> Response:
        wanted: IncomingPosition = call.body
        x, y = self._configuration.current.incoming_pos
        place = (x if wanted.x is None else wanted.x, y if wanted.y is None else wanted.y)
        await self._configuration.set_positions({}, incoming=place)
        return answer(Done())

    async def _move(self, call: Call) -> Response:
        wanted: Layout = call.body
        tokens = _positions(wanted.tokens)
        incoming = None if wanted.incoming is None else (wanted.incoming.x, wanted.incoming.y)

        async def move() -> None:
            await self._configuration.set_positions(_positions(wanted.endpoints), incoming=incoming, tokens=tokens)
            for token_id, place in tokens.items():
                token = self._tokens.get(token_id)
                if token is not None:
                    token.pos_x, token.pos_y = place

        await self._turns.take(move)
        return answer(Done())

    async def _reset(self, _: Call) -> Response:
        self._pool.start_afresh(self._clock())
        self._traffic.changed_endpoints.update(self._pool.states)
        for token in (self._tokens.anonymous, *self._tokens):
            token.requests = token.prompt_tokens = token.completion_tokens = 0
            if token.id is not None:
                self._traffic.changed_clients.add(token)
        if self._writer is not None:
            await self._writer.flush()
        return answer(Done())


def _positions(places: Mapping[int, Place]) -> dict[int, Position]:
    return {each: (place.x, place.y) for each, place in places.items()}
