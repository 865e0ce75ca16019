"""Which endpoint keeps which answer of the responses API, so that a conversation goes on where it was begun."""

from __future__ import annotations

import re
from collections.abc import Callable

from balancer.core.errors import InvalidRequest

# An id longer than this is nothing we would want to remember.
_SEARCHED_BYTES = 4096
_RESPONSE_ID = re.compile(rb'"id"\s*:\s*"(resp[\w.-]{1,120})"')
_LONGEST_SHOWN = 160


class StoredResponses:
    """The ids of answers with the ids of their endpoints; the oldest are forgotten beyond `size`.

    `on_kept`, when set, is told of each that `note` found.
    """

    def __init__(self, size: int = 10_000) -> None:
        self.on_kept: Callable[[str, int], None] | None = None
        self._size = size
        self._endpoints: dict[str, int] = {}

    def __repr__(self) -> str:
        return f"<StoredResponses {len(self._endpoints)} of at most {self._size}>"

    def keeper(self, previous_response_id: str | None) -> int | None:
        """The id of the endpoint that keeps the conversation; None goes on with none. Raises InvalidRequest."""
        if previous_response_id is None:
            return None
        endpoint_id = self._endpoints.get(previous_response_id)
        if endpoint_id is None:
            raise InvalidRequest(
                f"previous_response_id {previous_response_id[:_LONGEST_SHOWN]!r} is not known to this balancer: it was "
                "not made through it, or too long ago; send the whole conversation as `input` instead",
                param="previous_response_id",
                code="previous_response_not_found",
            )
        return endpoint_id

    def note(self, start_of_answer: bytes, endpoint_id: int) -> None:
        """Find the id in the first bytes of an answer and keep it."""
        found = _RESPONSE_ID.search(start_of_answer, 0, _SEARCHED_BYTES)
        if found is None:
            return
        response_id = found[1].decode()
        self.keep(response_id, endpoint_id)
        if self.on_kept is not None:
            self.on_kept(response_id, endpoint_id)

    def keep(self, response_id: str, endpoint_id: int) -> None:
        """Remember an id that is known already."""
        self._endpoints[response_id] = endpoint_id
        if len(self._endpoints) > self._size:
            del self._endpoints[next(iter(self._endpoints))]

    def all(self) -> dict[str, int]:
        """All ids with those of their endpoints, the oldest first."""
        return dict(self._endpoints)
