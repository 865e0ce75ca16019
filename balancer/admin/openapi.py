"""The OpenAPI document, made from the operations and from the definitions that validate their bodies and queries."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from itertools import chain
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import JsonSchemaMode

from balancer.admin.answers import Conflict, InvalidFields, Problem
from balancer.admin.gate import PREFIX, Operation
from balancer.auth import SESSION_COOKIE

_SECURITY: dict[str, dict[str, str]] = {
    "adminToken": {"type": "apiKey", "in": "header", "name": "X-Admin-Token"},
    "bearer": {"type": "http", "scheme": "bearer"},
    "session": {
        "type": "apiKey",
        "in": "cookie",
        "name": SESSION_COOKIE,
        "description": f"changes need the X-CSRF-Token header too; {PREFIX}/session tells its value",
    },
}
_IF_MATCH = {
    "name": "If-Match",
    "in": "header",
    "schema": {"type": "string"},
    "description": "the revision the change is based on; if another is current, nothing is changed and 409 is answered",
}


def answers(operation: Operation) -> dict[int, list[Any]]:
    """The types of the answers an operation may give, by status."""
    found: dict[int, list[Any]] = {200: [operation.answers]}

    def add(answer: Any, *statuses: int) -> None:
        for status in statuses:
            found.setdefault(status, []).append(answer)

    add(Problem, *operation.problems)
    if not operation.public:
        add(Problem, 401, 429, *([403] if operation.changes else []))
    if operation.body is not None:
        add(Problem, 400, 413, 415)
    if operation.body is not None or operation.query is not None or "{" in operation.path:
        add(InvalidFields, 422)
    if operation.conditional:
        add(Problem, 400)
        add(Conflict, 409)
    for status, answer in operation.other_problems.items():
        add(answer, status)
    return dict(sorted(found.items()))


def document(operations: Sequence[Operation], version: str) -> dict[str, Any]:
    """The whole document for these operations (OpenAPI 3.1). Takes long: not for the event loop."""
    schemas = _Schemas(operations)
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(PREFIX + operation.path, {})[operation.method.lower()] = _described(operation, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": "llm-balancer admin API", "version": version},
        "paths": paths,
        "components": {"schemas": schemas.definitions, "securitySchemes": _SECURITY},
        "security": [{name: []} for name in _SECURITY],
    }


class _Schemas:
    """The schemas of everything that operations take and answer, each made once."""

    def __init__(self, operations: Sequence[Operation]) -> None:
        adapters: dict[Any, tuple[JsonSchemaMode, TypeAdapter[Any]]] = {}
        for operation in operations:
            for adapter in _bodies(operation):
                adapters[id(adapter)] = ("validation", adapter)
            for kind in chain.from_iterable(answers(operation).values()):
                if kind not in adapters:
                    adapters[kind] = ("serialization", TypeAdapter(kind))
        inputs = [(key, mode, adapter) for key, (mode, adapter) in adapters.items()]
        made, shared = TypeAdapter.json_schemas(inputs, ref_template="#/components/schemas/{model}")
        self.definitions: dict[str, Any] = shared.get("$defs", {})
        self._made = {key: schema for (key, _), schema in made.items()}

    def of_body(self, operation: Operation) -> dict[str, Any] | None:
        """The schema of an operation's body, None without one."""
        return _any_of([self._made[id(adapter)] for adapter in _bodies(operation)])

    def of_answers(self, kinds: Sequence[Any]) -> dict[str, Any] | None:
        """The schema of answers that are of one of these types."""
        return _any_of([self._made[kind] for kind in dict.fromkeys(kinds)])


def _bodies(operation: Operation) -> list[TypeAdapter[Any]]:
    body = operation.body
    return [] if body is None else [adapter for adapter in (body.one, body.many) if adapter is not None]


def _any_of(schemas: list[dict[str, Any]]) -> dict[str, Any] | None:
    return {"anyOf": schemas} if len(schemas) > 1 else schemas[0] if schemas else None


def _described(operation: Operation, schemas: _Schemas) -> dict[str, Any]:
    described: dict[str, Any] = {
        "summary": operation.summary,
        "operationId": _operation_id(operation),
        "parameters": _parameters(operation),
        "responses": {
            str(status): {
                "description": HTTPStatus(status).phrase,
                "content": {
                    operation.media_type if status == 200 else "application/json": {"schema": schemas.of_answers(kinds)}
                },
            }
            for status, kinds in answers(operation).items()
        },
    }
    body = schemas.of_body(operation)
    if body is not None:
        described["requestBody"] = {"required": True, "content": {"application/json": {"schema": body}}}
    if operation.public:
        described["security"] = []
    return described


def _operation_id(operation: Operation) -> str:
    words = operation.path.replace("{", "").replace("}", "").replace("-", "/").split("/")
    return "_".join((operation.method.lower(), *filter(None, words)))


def _parameters(operation: Operation) -> list[dict[str, Any]]:
    parameters: list[dict[str, Any]] = [
        {"name": part[1:-1], "in": "path", "required": True, "schema": {"type": "integer", "minimum": 0}}
        for part in operation.path.split("/")
        if part.startswith("{")
    ]
    if operation.query is not None:
        properties = operation.query.model_json_schema()["properties"]
        parameters += [{"name": name, "in": "query", "schema": schema} for name, schema in properties.items()]
    if operation.conditional:
        parameters.append(_IF_MATCH)
    return parameters
