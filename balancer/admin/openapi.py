"""The OpenAPI document, made from the operations and from the definitions that validate their bodies and queries."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from http import HTTPStatus
from operator import or_
from typing import Any

from pydantic import TypeAdapter

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

# How pydantic knows a schema again: which operation, and what of it.
_Key = tuple[int, str]


def answers(operation: Operation) -> dict[int, Any]:
    """The type of every answer an operation may give, by status."""
    found: dict[int, list[Any]] = {200: [operation.answers]}

    def add(answer: Any, *statuses: int) -> None:
        for status in statuses:
            found.setdefault(status, []).append(answer)

    add(Problem, *operation.problems)
    if not operation.public:
        add(Problem, 401, *([403] if operation.changes else []))
    if operation.body is not None:
        add(Problem, 400, 413, 415)
    if operation.body is not None or operation.query is not None or "{" in operation.path:
        add(InvalidFields, 422)
    if operation.conditional:
        add(Problem, 400)
        add(Conflict, 409)
    for status, answer in operation.other_problems.items():
        add(answer, status)
    return {status: reduce(or_, types) for status, types in sorted(found.items())}


def document(operations: Sequence[Operation], version: str) -> dict[str, Any]:
    """The whole document for these operations (OpenAPI 3.1)."""
    schemas, definitions = _schemas(operations)
    paths: dict[str, dict[str, Any]] = {}
    for number, operation in enumerate(operations):
        of_operation = {name: schema for (owner, name), schema in schemas.items() if owner == number}
        paths.setdefault(PREFIX + operation.path, {})[operation.method.lower()] = _described(operation, of_operation)
    return {
        "openapi": "3.1.0",
        "info": {"title": "llm-balancer admin API", "version": version},
        "paths": paths,
        "components": {"schemas": definitions, "securitySchemes": _SECURITY},
        "security": [{name: []} for name in _SECURITY],
    }


def _schemas(operations: Sequence[Operation]) -> tuple[dict[_Key, Any], dict[str, Any]]:
    inputs: list[tuple[_Key, Any, TypeAdapter[Any]]] = []
    for number, operation in enumerate(operations):
        for status, answer in answers(operation).items():
            inputs.append(((number, str(status)), "serialization", TypeAdapter(answer)))
        if operation.body is not None:
            for name, adapter in (("one", operation.body.one), ("many", operation.body.many)):
                if adapter is not None:
                    inputs.append(((number, name), "validation", adapter))
    made, shared = TypeAdapter.json_schemas(inputs, ref_template="#/components/schemas/{model}")
    return {key: schema for (key, _), schema in made.items()}, shared.get("$defs", {})


def _described(operation: Operation, schemas: dict[str, Any]) -> dict[str, Any]:
    described: dict[str, Any] = {
        "summary": operation.summary,
        "operationId": _operation_id(operation),
        "parameters": _parameters(operation),
        "responses": {
            str(status): {
                "description": HTTPStatus(status).phrase,
                "content": {
                    operation.media_type if status == 200 else "application/json": {"schema": schemas[str(status)]}
                },
            }
            for status in answers(operation)
        },
    }
    given = [schemas[name] for name in ("one", "many") if name in schemas]
    if given:
        schema = given[0] if len(given) == 1 else {"anyOf": given}
        described["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
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
