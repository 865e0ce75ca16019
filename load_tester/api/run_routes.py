"""Runs over HTTP: start, watch, change, stop, list, annotate, compare, export, import."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute

from load_tester.api.http import Api, file_answer, json_answer, read_body, read_json, whole_number
from load_tester.api.live import HEADERS, MEDIA_TYPE, Live, event
from load_tester.engine.run import MOST_CARDS, Plan
from load_tester.errors import BadInput, NotRunning
from load_tester.exports import MOST_IMPORT_BYTES, ROW_COLUMNS, rows_csv, run_json
from load_tester.measures.compare import compare_outcomes
from load_tester.plan.cards import Card, read_card
from load_tester.report import report_html
from load_tester.runs import Runs

_RECENT = 500


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class CardToRun(_Body):
    """A card and the key it is sent with: given here, or by the id of one given before. Neither: no key."""

    card: dict[str, Any]
    api_key: Annotated[str, Field(max_length=10_000, repr=False)] = ""
    key_id: Annotated[str, Field(max_length=64)] = ""


class StartRun(_Body):
    """What is sent to start a run."""

    cards: Annotated[list[CardToRun], Field(min_length=1, max_length=MOST_CARDS)]
    order: Literal["together", "in_turn"] = "together"
    paired: bool = False
    name: Annotated[str, Field(max_length=200)] = ""
    notes: Annotated[str, Field(max_length=20_000)] = ""


class StopRun(_Body):
    """What is sent to stop one: all cards or one; `abort` cuts what is under way."""

    abort: bool = False
    card: int | None = None


class Annotate(_Body):
    """What is sent to rename a run or to write notes."""

    name: Annotated[str, Field(max_length=200)] | None = None
    notes: Annotated[str, Field(max_length=20_000)] | None = None


class ChangeCard(_Body):
    """What may be changed of a card under way."""

    changes: Annotated[dict[str, Any], Field(min_length=1)]


class RunRoutes:
    """Routes of runs."""

    def __init__(self, api: Api, runs: Runs, live: Live) -> None:
        self._api = api
        self._runs = runs
        self._live = live

    def routes(self) -> list[BaseRoute]:
        """All of them."""
        route = self._api.route
        one = "/runs/{run_id}"
        return [
            route("GET", "/runs", self._list),
            route("POST", "/runs", self._start),
            route("POST", "/runs/import", self._import),
            route("POST", "/stop", self._stop_all),
            route("GET", "/compare", self._compare),
            route("GET", one, self._get),
            route("PATCH", one, self._annotate),
            route("DELETE", one, self._delete),
            route("GET", f"{one}/live", self._stream),
            route("POST", f"{one}/stop", self._stop),
            route("PATCH", one + "/cards/{place:int}", self._change),
            route("GET", f"{one}/requests", self._requests),
            route("GET", f"{one}/export.json", self._export_json),
            route("GET", f"{one}/export.csv", self._export_csv),
            route("GET", f"{one}/report.html", self._export_html),
        ]

    async def _list(self, request: Request) -> Response:
        limit = whole_number(request, "limit", 50, 1, 500)
        return json_answer(await self._runs.listed(limit, whole_number(request, "offset", 0, 0, 10**9)))

    async def _start(self, request: Request) -> Response:
        wanted = await read_json(request, StartRun)
        cards, keys = [], []
        for place, each in enumerate(wanted.cards):
            cards.append(read_card(each.card, f"cards.{place}"))
            keys.append(self._runs.key(each.key_id).secret if each.key_id else each.api_key)
        run = await self._runs.start(
            Plan(tuple(cards), tuple(keys), wanted.order, wanted.paired, wanted.name, wanted.notes)
        )
        return json_answer({"id": run.id}, 201, {"location": f"/api/runs/{run.id}"})

    async def _get(self, request: Request) -> Response:
        return json_answer(await self._runs.result(_run_id(request)))

    async def _stream(self, request: Request) -> Response:
        run = self._runs.find_active(_run_id(request))
        if run is None:
            result = await self._runs.result(_run_id(request))
            return Response(event("run", result) + event("end", result), 200, HEADERS, MEDIA_TYPE)
        self._live.admit()
        return StreamingResponse(self._live.events(run), 200, HEADERS, MEDIA_TYPE)

    async def _stop(self, request: Request) -> Response:
        wanted = await read_json(request, StopRun)
        run = self._runs.find(_run_id(request))
        run.stop(abort=wanted.abort, card=wanted.card)
        return json_answer({"id": run.id, "phases": [card.phase for card in run.cards]})

    async def _stop_all(self, _: Request) -> Response:
        return json_answer({"stopped": self._runs.stop_all()})

    async def _change(self, request: Request) -> Response:
        wanted = await read_json(request, ChangeCard)
        run = self._runs.find(_run_id(request))
        place = int(request.path_params["place"])
        card = run.card(place)
        if card.over:
            raise NotRunning("the card is over")
        run.change(place, wanted.changes)
        return json_answer({"card": card.card.model_dump(mode="json"), "changes": card.changes})

    async def _annotate(self, request: Request) -> Response:
        wanted = await read_json(request, Annotate)
        run_id = _run_id(request)
        run = self._runs.find_active(run_id)
        if run is None:
            await self._runs.history.annotate(run_id, name=wanted.name, notes=wanted.notes)
        else:
            run.name = run.name if wanted.name is None else wanted.name
            run.notes = run.notes if wanted.notes is None else wanted.notes
        return json_answer({"ok": True})

    async def _delete(self, request: Request) -> Response:
        run_id = _run_id(request)
        if self._runs.find_active(run_id) is not None:
            raise NotRunning("the run is under way: stop it first")
        await self._runs.history.delete_run(run_id)
        return json_answer({"ok": True})

    async def _requests(self, request: Request) -> Response:
        limit = whole_number(request, "limit", _RECENT, 1, 20_000)
        rows = await self._runs.requests(_run_id(request))
        return json_answer({"columns": ROW_COLUMNS, "rows": rows[-limit:], "total": len(rows)})

    async def _compare(self, request: Request) -> Response:
        ids = [each for each in request.query_params.get("runs", "").split(",") if each]
        if len(ids) != 2:
            raise BadInput("runs", "expected the ids of two runs, separated by a comma")
        first, second = [await self._runs.result(each) for each in ids]
        pairs = []
        for place, (one, two) in enumerate(zip(first["cards"], second["cards"], strict=False)):
            compared = compare_outcomes(one, two)
            if compared is not None:
                pairs.append({"card": place, **compared})
        names = [{key: each[key] for key in ("id", "name", "started_at")} for each in (first, second)]
        return json_answer({"runs": names, "cards": pairs})

    async def _export_json(self, request: Request) -> Response:
        result = await self._runs.result(_run_id(request))
        return file_answer(run_json(result), "application/json", f"loadtest-{result['id']}.json")

    async def _export_csv(self, request: Request) -> Response:
        run_id = _run_id(request)
        text = rows_csv(await self._runs.requests(run_id))
        return file_answer(text, "text/csv; charset=utf-8", f"loadtest-{run_id}.csv")

    async def _export_html(self, request: Request) -> Response:
        result = await self._runs.result(_run_id(request))
        page = await asyncio.to_thread(report_html, result)
        return file_answer(page, "text/html; charset=utf-8", f"loadtest-{result['id']}.html")

    async def _import(self, request: Request) -> Response:
        found = await self._runs.take_in(await read_body(request, MOST_IMPORT_BYTES))
        if found["format"] == "older":
            return json_answer({"kind": "older", "cards": found["cards"], "ts": found["ts"]})
        return json_answer({"kind": "run", "id": found["id"]}, 201)


def _run_id(request: Request) -> str:
    return str(request.path_params["run_id"])[:64]


def card_and_key(wanted: CardToRun, runs: Runs, place: str = "card") -> tuple[Card, str]:
    """A card and its key, for questions about one. Raises BadInput or NotFound."""
    return read_card(wanted.card, place), runs.key(wanted.key_id).secret if wanted.key_id else wanted.api_key
