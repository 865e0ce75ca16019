"""Endpoints over the admin API: read, create, change, delete, one or several at once, and try whether they answer.

Several at once are one transaction and one revision, all or nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from pydantic import TypeAdapter
from starlette.responses import Response

from balancer.admin.answers import Aborted, Batched, ConnectionTest, Done, EndpointView, ProbeAnswer
from balancer.admin.configuration import Applied, LiveConfiguration
from balancer.admin.gate import Body, Call, Operation
from balancer.admin.models import (
    EndpointBatch,
    EndpointChanges,
    EndpointIds,
    EndpointToTest,
    EndpointUpdate,
    EndpointUpdates,
    NewEndpoint,
    NewEndpoints,
)
from balancer.admin.problems import Refused, answer, invalid_field
from balancer.admin.state import StateReader
from balancer.core.endpoints import Endpoint
from balancer.core.errors import ConnectError
from balancer.dispatch.dispatcher import Dispatcher
from balancer.health import Health
from balancer.store import Change, CreateEndpoint, DeleteEndpoint, EndpointRecord, UpdateEndpoint
from balancer.upstream.addresses import require_allowed
from balancer.upstream.control import ControlClient, ModelsAnswer

# What decides how an endpoint is reached.
_TESTED = frozenset({"base_url", "api_key", "verify_tls"})


class EndpointOperations:
    """What can be done with endpoints. `default_timeout_seconds` is for those created without one.

    `allow_link_local`: they may have addresses that are refused otherwise, see `balancer.upstream.addresses`.
    """

    def __init__(
        self,
        configuration: LiveConfiguration,
        reader: StateReader,
        control: ControlClient,
        health: Health,
        dispatcher: Dispatcher,
        *,
        default_timeout_seconds: float,
        allow_link_local: bool = False,
    ) -> None:
        self._configuration = configuration
        self._reader = reader
        self._control = control
        self._health = health
        self._dispatcher = dispatcher
        self._default_timeout_seconds = default_timeout_seconds
        self._allow_link_local = allow_link_local

    def operations(self) -> list[Operation]:
        """The table of these operations."""
        return [*self._on_all(), *self._on_some(), *self._on_one(), *self._tests()]

    def _on_all(self) -> list[Operation]:
        path = "/endpoints"
        new = Body(TypeAdapter(NewEndpoint), TypeAdapter(NewEndpoints))
        updates, ids = Body(many=TypeAdapter(EndpointUpdates)), Body(many=TypeAdapter(EndpointIds))
        one_or_all: Any = EndpointView | list[EndpointView]
        return [
            Operation("GET", path, "All endpoints", self._list, list[EndpointView]),
            Operation(
                "POST",
                path,
                "Create an endpoint, or several as one revision",
                self._create,
                one_or_all,
                (409, 503),
                new,
                conditional=True,
            ),
            Operation(
                "PATCH",
                path,
                "Change several endpoints as one revision",
                self._update_several,
                list[EndpointView],
                (404, 409, 503),
                updates,
                conditional=True,
            ),
            Operation(
                "DELETE",
                path,
                "Delete several endpoints as one revision; what runs there finishes",
                self._delete_several,
                Done,
                (404, 503),
                ids,
                conditional=True,
            ),
        ]

    def _on_some(self) -> list[Operation]:
        return [
            Operation(
                "POST",
                "/batch",
                "Create endpoints and change others as one revision",
                self._batch,
                Batched,
                (404, 409, 503),
                Body(TypeAdapter(EndpointBatch)),
                conditional=True,
            )
        ]

    def _on_one(self) -> list[Operation]:
        path = "/endpoints/{eid}"
        fields = Body(TypeAdapter(EndpointChanges))
        return [
            Operation("GET", path, "One endpoint", self._get, EndpointView, (404,)),
            Operation(
                "PATCH",
                path,
                "Change some fields of an endpoint",
                self._update,
                EndpointView,
                (404, 409, 503),
                fields,
                conditional=True,
            ),
            Operation(
                "DELETE",
                path,
                "Delete an endpoint; what runs there finishes",
                self._delete,
                Done,
                (404, 503),
                conditional=True,
            ),
            Operation(
                "POST",
                path + "/abort",
                "End at once what is in flight at an endpoint",
                self._abort,
                Aborted,
                (404,),
            ),
        ]

    def _tests(self) -> list[Operation]:
        unsaved = Body(TypeAdapter(EndpointToTest))
        return [
            Operation(
                "POST",
                "/endpoints/{eid}/test",
                "Ask an endpoint for its models",
                self._test,
                ConnectionTest,
                (404,),
            ),
            Operation(
                "POST",
                "/endpoints/{eid}/probe",
                "Probe an endpoint now; the result counts as any probe's",
                self._probe,
                ProbeAnswer,
                (404,),
            ),
            Operation(
                "POST",
                "/test",
                "Ask an endpoint for its models before it is saved",
                self._test_unsaved,
                ConnectionTest,
                (404,),
                unsaved,
            ),
        ]

    # -- reading ---------------------------------------------------------------------------------------------------

    async def _list(self, _: Call) -> Response:
        current = self._configuration.current
        return answer(self._reader.endpoints(current.endpoints), revision=current.revision)

    async def _get(self, call: Call) -> Response:
        record = self._required(call.id)
        return answer(self._reader.endpoints([record])[0], revision=self._configuration.current.revision)

    # -- changing --------------------------------------------------------------------------------------------------

    async def _create(self, call: Call) -> Response:
        given: Sequence[NewEndpoint] = call.body if isinstance(call.body, list) else [call.body]
        applied = await self._change(call, self._creations(given))
        views = self._reader.endpoints(applied.created)
        return answer(views if isinstance(call.body, list) else views[0], revision=applied.after.revision)

    async def _update(self, call: Call) -> Response:
        self._required(call.id)
        changes: EndpointChanges = call.body
        applied = await self._change(call, [UpdateEndpoint(call.id, changes.changes())])
        return self._updated(applied, [call.id], one=True)

    async def _update_several(self, call: Call) -> Response:
        updates: Sequence[EndpointUpdate] = call.body
        applied = await self._change(call, _updates(updates))
        return self._updated(applied, [each.id for each in updates])

    async def _batch(self, call: Call) -> Response:
        given: EndpointBatch = call.body
        applied = await self._change(call, [*self._creations(given.create), *_updates(given.update)])
        records = {each.id: each for each in applied.after.endpoints}
        batched = Batched(
            self._reader.endpoints(applied.created), self._reader.endpoints(records[each.id] for each in given.update)
        )
        return answer(batched, revision=applied.after.revision)

    def _creations(self, given: Sequence[NewEndpoint]) -> list[CreateEndpoint]:
        timeout = {"timeout": self._default_timeout_seconds}
        return [CreateEndpoint({**timeout, **each.changes()}) for each in given]

    async def _delete(self, call: Call) -> Response:
        self._required(call.id)
        applied = await self._change(call, [DeleteEndpoint(call.id)])
        return answer(Done(), revision=applied.after.revision)

    async def _delete_several(self, call: Call) -> Response:
        applied = await self._change(call, [DeleteEndpoint(each) for each in call.body])
        return answer(Done(), revision=applied.after.revision)

    async def _abort(self, call: Call) -> Response:
        """What was not answered yet goes to another endpoint; begun answers break off. The configuration stays."""
        endpoint = self._required(call.id)
        aborted = self._dispatcher.cut(call.id)
        call.told.update(endpoint=endpoint.name, aborted=aborted)
        return answer(Aborted(aborted))

    async def _change(self, call: Call, changes: Sequence[Change]) -> Applied:
        for change in changes:
            if isinstance(change, CreateEndpoint | UpdateEndpoint):
                self._require_allowed(change.fields)
        return await self._configuration.change(changes, actor=call.actor, expected_revision=call.expected_revision)

    def _updated(self, applied: Applied, ids: Sequence[int], *, one: bool = False) -> Response:
        records = {each.id: each for each in applied.after.endpoints}
        views = self._reader.endpoints(records[each] for each in ids)
        return answer(views[0] if one else views, revision=applied.after.revision)

    def _require_allowed(self, fields: Mapping[str, object]) -> None:
        """A mistake is told at once; names are judged by where they lead when a connection is made."""
        try:
            if not self._allow_link_local:
                require_allowed(str(fields.get("base_url", "")))
        except ConnectError as error:
            raise invalid_field("body", "base_url", f"is at {error}", "address") from None

    def _required(self, endpoint_id: int) -> EndpointRecord:
        record = self._configuration.endpoint(endpoint_id)
        if record is None:
            raise Refused(404, "endpoint not found")
        return record

    # -- testing ---------------------------------------------------------------------------------------------------

    async def _test(self, call: Call) -> Response:
        return await self._asked(self._required(call.id))

    async def _test_unsaved(self, call: Call) -> Response:
        given: EndpointToTest = call.body
        fields: dict[str, Any] = {name: value for name, value in given.changes().items() if name in _TESTED}
        self._require_allowed(fields)
        call.told.update({name: fields[name] for name in ("base_url",) if name in fields})
        if given.id is not None:
            return await self._asked(replace(self._required(given.id), **fields))
        if "base_url" not in fields:
            raise invalid_field("body", "base_url", "is required without the id of an endpoint", "missing")
        return await self._asked(Endpoint(id=0, name="", **fields))

    async def _probe(self, call: Call) -> Response:
        found = await self._health.probe(self._required(call.id))
        return answer(ProbeAnswer(**_told(found), health=self._reader.health(call.id)))

    async def _asked(self, endpoint: Endpoint) -> Response:
        return answer(ConnectionTest(**_told(await self._control.models(endpoint))))


def _updates(given: Sequence[EndpointUpdate]) -> list[UpdateEndpoint]:
    return [UpdateEndpoint(each.id, each.fields.changes()) for each in given]


def _told(found: ModelsAnswer) -> dict[str, Any]:
    return {
        "ok": found.ok,
        "verdict": found.verdict,
        "reason": found.reason,
        "status": found.status,
        "latency_ms": round(1000 * found.latency_seconds, 1),
        "models": list(found.ids),
    }
