"""Revisions over the admin API: what was changed by whom, and the two ways back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

from balancer.admin.answers import ChangeView, RevertProblem, Revisions, RevisionView, State
from balancer.admin.configuration import LiveConfiguration
from balancer.admin.gate import Call, Operation, shown
from balancer.admin.models import RevisionsQuery
from balancer.admin.problems import answer
from balancer.admin.state import StateReader
from balancer.store import RecordedChange, Revision, UnknownRevision


class RevisionOperations:
    """What can be done with revisions. Restoring and reverting make new ones."""

    def __init__(self, configuration: LiveConfiguration, reader: StateReader) -> None:
        self._configuration = configuration
        self._reader = reader

    def operations(self) -> list[Operation]:
        """The table of these operations."""
        one = "/revisions/{number}"
        return [
            Operation(
                "GET", "/revisions", "Changes, newest first", self._list, Revisions, (503,), query=RevisionsQuery
            ),
            Operation("GET", one, "One change", self._get, RevisionView, (404, 503)),
            Operation(
                "POST",
                f"{one}/restore",
                "Back to how everything was right after a change; deleted endpoints come back with their keys",
                self._restore,
                State,
                (404, 409, 503),
                conditional=True,
            ),
            Operation(
                "POST",
                f"{one}/revert",
                "Take one change back and nothing else; refused where it has changed again since",
                self._revert,
                State,
                (404, 409, 503),
                conditional=True,
                other_problems={409: RevertProblem},
            ),
        ]

    async def _list(self, call: Call) -> Response:
        query: RevisionsQuery = call.query
        found = await self._configuration.revisions(query.limit, query.before)
        current = self._configuration.current.revision
        return answer(Revisions(current, [_view(each) for each in found]))

    async def _get(self, call: Call) -> Response:
        found = await self._configuration.revisions(1, call.id + 1)
        if not found or found[0].number != call.id:
            raise UnknownRevision(call.id)
        return answer(_view(found[0]))

    async def _restore(self, call: Call) -> Response:
        await self._configuration.restore(call.id, actor=call.actor, expected_revision=call.expected_revision)
        return self._state()

    async def _revert(self, call: Call) -> Response:
        await self._configuration.revert(call.id, actor=call.actor, expected_revision=call.expected_revision)
        return self._state()

    def _state(self) -> Response:
        state = self._reader.state()
        return answer(state, revision=state.revision)


def _view(revision: Revision) -> RevisionView:
    changes = [_change(each) for each in revision.changes]
    return RevisionView(revision.number, revision.created_at, revision.actor, revision.summary, changes)


def _change(change: RecordedChange) -> ChangeView:
    return ChangeView(change.endpoint_id, change.name, _fields(change.before), _fields(change.after))


def _fields(recorded: Mapping[str, object] | None) -> dict[str, Any] | None:
    if recorded is None:
        return None
    return {name.replace("api_key_id", "api_key"): shown(name, value) for name, value in recorded.items()}
