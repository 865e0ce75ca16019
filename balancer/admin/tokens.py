"""Client tokens over the admin API.

A token is shown once, to whoever creates it; afterwards only its digest is known.
"""

from __future__ import annotations

import dataclasses
from datetime import datetime

from pydantic import TypeAdapter
from starlette.responses import Response

from balancer.admin.answers import CreatedToken, Done, TokenView
from balancer.admin.gate import Body, Call, Operation
from balancer.admin.models import NewToken, TokenChanges
from balancer.admin.problems import Refused, answer
from balancer.admin.state import StateReader
from balancer.admin.turns import Turns
from balancer.auth import ClientToken, ClientTokens, new_token, preview, token_digest
from balancer.store import TOKEN_POSITION, TokenRecord, TokenStore, TokenTaken


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
            Operation("PATCH", one, "Rename or move a client token", self._update, TokenView, (404, 409, 503), changes),
            Operation("DELETE", one, "Revoke a client token at once and for ever", self._revoke, Done, (404, 503)),
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
            token = live_token(await self._store.create(wanted.name, digest.hex(), preview(text), position=position))
            self._tokens.add(digest, token)
            return token

        created = self._reader.token(await self._turns.take(create))
        call.told.update(token_id=created.id, token=created.name)
        return answer(CreatedToken(**dataclasses.asdict(created), token=text))

    async def _update(self, call: Call) -> Response:
        wanted: TokenChanges = call.body

        async def update() -> ClientToken:
            token = self._required(call.id)
            x = token.pos_x if wanted.pos_x is None else wanted.pos_x
            y = token.pos_y if wanted.pos_y is None else wanted.pos_y
            call.told.update(token=token.name, **({} if wanted.name is None else {"renamed_to": wanted.name}))
            stored = await self._store.update(call.id, name=wanted.name, position=(x, y))
            token.name, token.pos_x, token.pos_y = stored.name, stored.pos_x, stored.pos_y
            return token

        return answer(self._reader.token(await self._turns.take(update)))

    async def _revoke(self, call: Call) -> Response:
        async def revoke() -> None:
            call.told.update(token=self._required(call.id).name)
            await self._store.revoke(call.id)
            self._tokens.revoke(call.id)

        await self._turns.take(revoke)
        return answer(Done())

    def _required(self, token_id: int) -> ClientToken:
        token = self._tokens.get(token_id)
        if token is None:
            raise Refused(404, "token not found")
        return token


def live_token(record: TokenRecord) -> ClientToken:
    """A stored token as it lives, with its counts so far."""
    return ClientToken(
        record.id,
        record.name,
        record.token_preview,
        created_at=_unix_time(record.created_at),
        pos_x=record.pos_x,
        pos_y=record.pos_y,
        requests=record.total_requests,
        prompt_tokens=record.prompt_tokens_total,
        completion_tokens=record.completion_tokens_total,
        last_used_at=None if record.last_used_at is None else _unix_time(record.last_used_at),
    )


def _unix_time(iso: str) -> float:
    return datetime.fromisoformat(iso).timestamp()
