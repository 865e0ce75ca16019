"""Client tokens and the admin's own session over the admin API.

A token is shown once, to whoever creates it; afterwards only its digest is known.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import datetime

from pydantic import TypeAdapter
from starlette.responses import Response

from balancer.admin.answers import CreatedToken, Done, SessionView, TokenView
from balancer.admin.gate import Body, Call, Operation
from balancer.admin.models import Login, NewToken, TokenChanges
from balancer.admin.problems import Refused, answer
from balancer.admin.state import StateReader
from balancer.admin.turns import Turns
from balancer.auth import AdminAuth, ClientToken, ClientTokens, Session, new_token, preview, token_digest
from balancer.store import TOKEN_POSITION, TokenRecord, TokenStore, TokenTaken, iso_time


class TokenOperations:
    """What can be done with client tokens: stored first, then in force."""

    def __init__(self, tokens: ClientTokens, store: TokenStore, reader: StateReader) -> None:
        self._tokens = tokens
        self._store = store
        self._reader = reader
        self._turns = Turns()

    def operations(self) -> list[Operation]:
        """The table of these operations."""
        all_, one = "/tokens", "/tokens/{tid}"
        new, changes = Body(TypeAdapter(NewToken)), Body(TypeAdapter(TokenChanges))
        return [
            Operation("GET", all_, "The stored client tokens in force", self._list, list[TokenView]),
            Operation(
                "POST",
                all_,
                "Create a client token; this answer alone shows it",
                self._create,
                CreatedToken,
                (409, 503),
                new,
            ),
            Operation(
                "PATCH", one, "Rename or move a client token", self._update, TokenView, (404, 409, 503), changes
            ),
            Operation(
                "DELETE", one, "Revoke a client token at once and for ever", self._revoke, Done, (404, 503)
            ),
        ]

    async def settle(self) -> None:
        """Wait until every change under way has ended, before the store is closed."""
        await self._turns.settle()

    async def _list(self, _: Call) -> Response:
        return answer(self._reader.client_tokens())

    async def _create(self, call: Call) -> Response:
        wanted: NewToken = call.body
        text = wanted.token or new_token()
        x, y = TOKEN_POSITION
        position = (x if wanted.pos_x is None else wanted.pos_x, y if wanted.pos_y is None else wanted.pos_y)

        async def create() -> ClientToken:
            digest = token_digest(text)
            if self._tokens.knows(digest):
                raise TokenTaken
            token = _live(await self._store.create(wanted.name, digest.hex(), preview(text), position=position))
            self._tokens.add(digest, token)
            return token

        created = self._reader.token(await self._turns.take(create))
        return answer(CreatedToken(**_fields(created), token=text))
