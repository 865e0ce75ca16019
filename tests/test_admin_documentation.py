from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from starlette.routing import Match, Route

from balancer.admin.gate import PREFIX
from balancer.admin.openapi import answers
from tests.admin_parts import AdminServer, Json, admin_server, walk

METHODS = ("get", "post", "patch", "delete", "put")
# What the other tests and the editor rely on: as many paths as there are, each with its methods.
PATHS = {
    "/state": {"get"},
    "/routing": {"patch"},
    "/reset-stats": {"post"},
    "/incoming-pos": {"patch"},
    "/layout": {"patch"},
    "/endpoints": {"get", "post", "patch", "delete"},
    "/endpoints/{eid}": {"get", "patch", "delete"},
    "/endpoints/{eid}/abort": {"post"},
    "/endpoints/{eid}/test": {"post"},
    "/endpoints/{eid}/probe": {"post"},
    "/test": {"post"},
    "/batch": {"post"},
    "/revisions": {"get"},
    "/revisions/{number}": {"get"},
    "/revisions/{number}/restore": {"post"},
    "/revisions/{number}/revert": {"post"},
    "/explain": {"post"},
    "/requests": {"get"},
    "/series": {"get"},
    "/tokens": {"get", "post"},
    "/tokens/{tid}": {"patch", "delete"},
    "/session": {"get", "post", "delete"},
    "/events": {"get"},
    "/settings": {"get"},
    "/openapi.json": {"get"},
}


@pytest.fixture
async def admin(template: Path, tmp_path: Path) -> AsyncIterator[AdminServer]:
    async with admin_server(template, tmp_path) as server:
        yield server


async def test_every_documented_path_and_method_is_routed_and_answers_as_documented(admin: AdminServer) -> None:
    document = await admin.get("openapi.json")
    assert {path.removeprefix(PREFIX): methods.keys() for path, methods in document["paths"].items()} == PATHS
    for path, methods in document["paths"].items():
        if path == f"{PREFIX}/events":
            continue  # never ends
        for method, described in methods.items():
            url = _url(path)
            for body in (None, {}, {"name": "a", "base_url": "http://a.test"}, [1], [{"id": 1, "fields": {}}]):
                answer = await admin.client.request(method, url, json=body)
                assert str(answer.status_code) in described["responses"], (method, path, body, answer.text)
                assert answer.status_code != 405


async def test_every_route_is_documented(admin: AdminServer) -> None:
    document = await admin.get("openapi.json")
    routed = [route.path for route in admin.api.routes() if isinstance(route, Route)]
    assert set(routed) - document["paths"].keys() == {PREFIX, PREFIX + "/{rest:path}"}
    assert routed[-2:] == [PREFIX, PREFIX + "/{rest:path}"]
    for path in document["paths"]:
        for method in METHODS:
            if method not in document["paths"][path]:
                answer = await admin.client.request(method, _url(path))
                assert answer.status_code == 405
                assert set(answer.headers["allow"].lower().split(", ")) == document["paths"][path].keys()


async def test_no_route_shadows_another(admin: AdminServer) -> None:
    routes = admin.api.routes()
    for route in routes[:-1]:
        assert isinstance(route, Route)
        scope = {"type": "http", "method": "GET", "path": re.sub(r"\{\w+\}", "1", route.path), "root_path": ""}
        matching = [each for each in routes if each.matches(scope)[0] is Match.FULL]
        assert matching[0] is route


async def test_every_reference_leads_somewhere(admin: AdminServer) -> None:
    document = await admin.get("openapi.json")
    assert document["openapi"] == "3.1.0"
    assert document["info"]["version"] == "1.2.3"
    references = {value["$ref"] for value in walk(document) if isinstance(value, dict) and "$ref" in value}
    assert references == {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}


async def test_it_says_what_validates(admin: AdminServer) -> None:
    schemas = (await admin.get("openapi.json"))["components"]["schemas"]
    new = schemas["NewEndpoint"]
    assert new["additionalProperties"] is False
    assert set(new["required"]) == {"name", "base_url"}
    assert {"timeout", "timeout_seconds", "role", "tags", "price_per_million_input"} <= new["properties"].keys()
    assert not {"id", "created_at", "updated_at"} & new["properties"].keys()
    assert _number(new["properties"]["priority_order"]) == {"type": "integer", "minimum": 1, "maximum": 100}
    assert "api_key" not in schemas["EndpointView"]["properties"]


async def test_operations_are_told_apart(admin: AdminServer) -> None:
    document = await admin.get("openapi.json")
    described = [each for methods in document["paths"].values() for each in methods.values()]
    assert len({each["operationId"] for each in described}) == len(described) == len(admin.api.operations)
    assert all(each["summary"] for each in described)
    open_ones = [each["operationId"] for each in described if each.get("security") == []]
    assert open_ones == ["post_session"]


def test_conditions_and_bodies_bring_their_statuses(operations: dict[str, set[int]]) -> None:
    assert operations["GET /state"] == {200, 401, 429}
    assert operations["POST /session"] == {200, 400, 401, 413, 415, 422, 429}
    assert operations["PATCH /endpoints/{eid}"] == {200, 400, 401, 403, 404, 409, 413, 415, 422, 429, 503}
    assert operations["DELETE /endpoints/{eid}"] == {200, 400, 401, 403, 404, 409, 422, 429, 503}
    assert operations["GET /series"] == {200, 401, 404, 422, 429, 503}


@pytest.fixture
async def operations(admin: AdminServer) -> dict[str, set[int]]:
    return {f"{each.method} {each.path}": set(answers(each)) for each in admin.api.operations}


def _url(path: str) -> str:
    return re.sub(r"\{\w+\}", "1", path.removeprefix(PREFIX + "/"))


def _number(schema: Json) -> Json:
    return next(each for each in schema["anyOf"] if each["type"] != "null")
