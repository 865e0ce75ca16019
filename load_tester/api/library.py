"""What runs are made of, over HTTP: targets asked before a run, keys, profiles, sets of prompts."""

from __future__ import annotations

import itertools
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from load_tester.api.http import Api, json_answer, read_body, read_json
from load_tester.api.run_routes import CardToRun, card_and_key
from load_tester.engine.inquiries import list_models, try_once
from load_tester.engine.targets import pin
from load_tester.errors import BadInput
from load_tester.plan.cards import read_card, within_caps
from load_tester.plan.loads import Sweep, due_times, is_closed, plain
from load_tester.plan.presets import PRESETS
from load_tester.runs import Runs, StoredKey

MOST_SET_BYTES = 64 * 1024 * 1024
_PREVIEW = 200


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class NewKey(_Body):
    """What is sent to have a key held."""

    key: Annotated[str, Field(min_length=1, max_length=10_000, repr=False)]
    label: Annotated[str, Field(max_length=120)] = ""


class Profile(_Body):
    """Cards kept under a name, without keys."""

    cards: Annotated[list[dict[str, Any]], Field(min_length=1, max_length=32)]
    paired: bool = False
    notes: Annotated[str, Field(max_length=20_000)] = ""


class LibraryRoutes:
    """Routes of everything that is prepared before a run."""

    def __init__(self, api: Api, runs: Runs) -> None:
        self._api = api
        self._runs = runs

    def routes(self) -> list[BaseRoute]:
        """All of them."""
        route = self._api.route
        return [
            route("POST", "/models", self._models),
            route("POST", "/try", self._try),
            route("POST", "/plan", self._plan),
            route("GET", "/keys", self._keys),
            route("POST", "/keys", self._add_key),
            route("DELETE", "/keys/{key_id}", self._remove_key),
            route("GET", "/profiles", self._profiles),
            route("PUT", "/profiles/{name}", self._save_profile),
            route("DELETE", "/profiles/{name}", self._delete_profile),
            route("GET", "/prompt-sets", self._prompt_sets),
            route("POST", "/prompt-sets", self._add_prompt_set),
            route("DELETE", "/prompt-sets/{set_id}", self._delete_prompt_set),
        ]

    async def _models(self, request: Request) -> Response:
        card, key = card_and_key(await read_json(request, CardToRun), self._runs)
        return json_answer(await list_models(card, await pin(card.url, self._runs.rules), key))

    async def _try(self, request: Request) -> Response:
        card, key = card_and_key(await read_json(request, CardToRun), self._runs)
        lines = await self._runs.prompts_of(card)
        return json_answer(await try_once(card, await pin(card.url, self._runs.rules), key, lines))

    async def _plan(self, request: Request) -> Response:
        """Whether a card could run, and when its first requests would leave."""
        card, _ = card_and_key(await read_json(request, CardToRun), self._runs)
        within_caps(card, self._runs.caps)
        load = plain(card.load)
        times: list[float] = []
        if not is_closed(load) and not isinstance(load, Sweep):
            shown = min(card.stop.requests or _PREVIEW, _PREVIEW)
            times = list(itertools.islice(due_times(load, card.seed), shown))
        return json_answer({"card": card.model_dump(mode="json"), "first_arrivals_seconds": times})

    async def _keys(self, _: Request) -> Response:
        return json_answer({"keys": [_shown(key) for key in self._runs.keys]})

    async def _add_key(self, request: Request) -> Response:
        wanted = await read_json(request, NewKey)
        if not wanted.key.isascii() or not wanted.key.isprintable():
            raise BadInput("key", "holds characters that cannot be sent in a header")
        return json_answer(_shown(self._runs.add_key(wanted.label, wanted.key)), 201)

    async def _remove_key(self, request: Request) -> Response:
        self._runs.remove_key(request.path_params["key_id"])
        return json_answer({"ok": True})

    async def _profiles(self, _: Request) -> Response:
        return json_answer({"profiles": await self._runs.history.profiles()})

    async def _save_profile(self, request: Request) -> Response:
        name = request.path_params["name"].strip()
        if not 1 <= len(name) <= 120 or not name.isprintable():
            raise BadInput("name", "expected 1 to 120 printable characters")
        if name in {preset["id"] for preset in PRESETS}:
            raise BadInput("name", "is the name of a preset: choose another")
        wanted = await read_json(request, Profile)
        cards = [read_card(card, f"cards.{place}").model_dump(mode="json") for place, card in enumerate(wanted.cards)]
        value = {"cards": cards, "paired": wanted.paired, "notes": wanted.notes}
        await self._runs.history.save_profile(name, value)
        return json_answer({"name": name, **value})

    async def _delete_profile(self, request: Request) -> Response:
        await self._runs.history.delete_profile(request.path_params["name"])
        return json_answer({"ok": True})

    async def _prompt_sets(self, _: Request) -> Response:
        return json_answer({"prompt_sets": await self._runs.history.prompt_sets()})

    async def _add_prompt_set(self, request: Request) -> Response:
        name = request.query_params.get("name", "prompts.jsonl")[:120]
        return json_answer(await self._runs.add_prompt_set(name, await read_body(request, MOST_SET_BYTES)), 201)

    async def _delete_prompt_set(self, request: Request) -> Response:
        await self._runs.history.delete_prompt_set(request.path_params["set_id"])
        return json_answer({"ok": True})


def _shown(key: StoredKey) -> dict[str, str]:
    return {"id": key.id, "label": key.label, "preview": key.preview}
