"""What requests find out in one worker and all must know: turns in endpoints' lives, where conversations are kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from balancer.core.notices import Notice
from balancer.core.pool import EndpointPool
from balancer.core.state import EndpointState
from balancer.wire.stored_responses import StoredResponses
from balancer.workers.seam import Channel, Message
from balancer.workers.standing import Standing, adopt, standing_of, troubles_of


class Agreement:
    """Tells what happens here over `channel`, and lets what was heard count. `clock` is monotonic."""

    def __init__(
        self, pool: EndpointPool, stored_responses: StoredResponses, channel: Channel, clock: Callable[[], float]
    ) -> None:
        self._pool = pool
        self._stored_responses = stored_responses
        self._channel = channel
        self._clock = clock
        self._also_noticed = pool.noticed  # who writes the log; what was only heard is not written again
        pool.noticed = self._noticed
        stored_responses.on_kept = lambda response_id, endpoint_id: channel.tell(["kept", {response_id: endpoint_id}])

    def hear(self, message: Message) -> bool:
        """Let a message count; False when it is none of those."""
        match message:
            case ["turn", standing]:
                adopt(self._pool, Standing(*standing), self._clock())
            case ["kept", conversations]:
                for response_id, endpoint_id in conversations.items():
                    self._stored_responses.keep(response_id, endpoint_id)
            case _:
                return False
        return True

    def everything(self) -> Iterator[Message]:
        """All that one who knows nothing has to hear."""
        for standing in troubles_of(self._pool, self._clock()):
            yield ["turn", standing]
        conversations = self._stored_responses.all()
        if conversations:
            yield ["kept", conversations]

    def _noticed(self, state: EndpointState, notice: Notice, now: float) -> None:
        if self._also_noticed is not None:
            self._also_noticed(state, notice, now)
        if not state.removed:
            self._channel.tell(["turn", standing_of(state, notice)])
