from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.admin_parts import KEY, AdminServer, admin_server
from tests.store_parts import EVERY_FIELD

BAD_TEXT = "line\r\nbreak"
JSON_TYPE = {"content-type": "application/json"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def admin(template: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[AdminServer]:
    """One for all tests here, since none of them may change anything."""
    async with admin_server(template, tmp_path_factory.mktemp("admin")) as server:
        await server.add("present", api_key=KEY)
        before = await server.get("state")
        yield server
        assert await server.get("state") == before
        await server.check_consistent()


pytestmark = pytest.mark.asyncio(loop_scope="module")

# Field, value as JSON text.
BAD_FIELDS = [
    *[("name", text) for text in ('""', '"   "', json.dumps("x" * 121), json.dumps(BAD_TEXT), '"a\\u0000b"')],
    *[("name", text) for text in ('"a\\u2028b"', '"a\\u0085b"', "5", "true", "[]", "{}")],
    *[
        ("base_url", json.dumps(text))
        for text in (
            "",
            "x",
            "host:8000/v1",
            "ftp://host/v1",
            "file:///etc/passwd",
            "javascript:alert(1)",
            "http://",
            "http:///v1",
            "https://?x",
            "http://user:hunter2@host/v1",
            "http://user@host/v1",
            "http://host/v1?key=hunter2",
            "http://host/v1?",
            "http://host/v1#part",
            "http://host/v1#",
            "http://host:99999/v1",
            "http://host:0/v1",
            "http://host:port/v1",
            "http://[::1/v1",
            "http://ho st/v1",
            "http://host/v1\r\nx-header: 1",
            "http://host\t.test/v1",
            "http://host\\@other/v1",
            "http://ho\u0000st/v1",
            "http://" + "h" * 300 + "/v1",
            "http://host/" + "p" * 500,
        )
    ],
    *[("base_url", text) for text in ("5", "true", '["http://host/v1"]')],
    *[("api_key", json.dumps(text)) for text in ("k" * 2001, "sk-1\r\nx: y", "sk 1", "sk-\u00fc", "sk\u0000")],
    *[(name, text) for name in ("timeout", "timeout_seconds") for text in ("4.99", "601", "-1", '"60"', "NaN", "true")],
    ("timeout", "Infinity"),
    ("timeout", "1e400"),
    ("timeout", "1" + "0" * 400),
    *[(name, text) for name in ("verify_tls", "enabled", "connected") for text in ("1", '"true"', "[]")],
    *[(name, "0") for name in ("include_usage", "health_check")],
    *[("token_quota_percent", text) for text in ("-0.1", "100.1", "NaN", "-Infinity", '"5"', "1e-300", "true")],
    *[("priority_order", text) for text in ("0", "101", "1.5", '"1"', "true", "1" + "0" * 400, "1e400")],
    *[("max_concurrent", text) for text in ("-1", "10001", "9223372036854775808", "1.0", "false")],
    *[("weight", text) for text in ("0", "-1", "1000.1", "NaN", "Infinity", "5e-324")],
    *[("models", text) for text in ('"llama"', "[1]", '[""]', '["a\\nb"]', json.dumps(["m" * 257]), "{}")],
    ("models", json.dumps([f"m{number}" for number in range(1001)])),
    *[("model_aliases", text) for text in ("[]", '{"a": 1}', '{"": "b"}', '{"a": ""}', '{"a\\n": "b"}')],
    *[
        (name, text)
        for name in ("price_per_million_input", "price_per_million_output")
        for text in ("-1", "NaN", '"1"')
    ],
    *[("tags", text) for text in ('"a"', '[""]', json.dumps(["t" * 51]), json.dumps([str(n) for n in range(21)]))],
    *[(name, text) for name in ("pos_x", "pos_y") for text in ("1000001", "-1000001", "NaN", "-Infinity", '"1"')],
    *[("role", text) for text in ("1", "[]", json.dumps("r" * 51))],
    *[
        (name, "1")
        for name in ("created_at", "updated_at", "discovered", "api_key_id", "has_api_key", "colour", "__class__")
    ],
    ("Name", '"other"'),
]


@pytest.mark.parametrize(("name", "text"), BAD_FIELDS)
async def test_a_bad_field_is_named_and_never_stored(admin: AdminServer, name: str, text: str) -> None:
    good = {"name": '"new"', "base_url": '"http://new.test/v1"'}
    for method, path, fields in (("POST", "endpoints", {**good, name: text}), ("PATCH", "endpoints/1", {name: text})):
        body = "{" + ", ".join(f'"{key}": {value}' for key, value in fields.items()) + "}"
        answer = await admin.client.request(method, path, content=body.encode(), headers=JSON_TYPE)
        assert answer.status_code == 422, answer.text
        for problem in answer.json()["detail"]:
            assert problem["loc"][:2] == ["body", name]
        assert "hunter2" not in answer.text


@pytest.mark.parametrize("name", ["id", "created_at", "updated_at"])
async def test_what_the_server_sets_is_refused_as_such(admin: AdminServer, name: str) -> None:
    answer = await admin.patch("endpoints/1", {name: 1})
    problem = {"loc": ["body", name], "msg": "is set by the server", "type": "extra_forbidden"}
    assert answer.json() == {"detail": [problem]}


@pytest.mark.parametrize("missing", ["name", "base_url"])
async def test_a_new_endpoint_needs_name_and_url(admin: AdminServer, missing: str) -> None:
    fields = {"name": "new", "base_url": "http://new.test/v1"}
    for body in ({**fields, missing: None}, {key: value for key, value in fields.items() if key != missing}):
        answer = await admin.client.post("endpoints", json=body)
        assert answer.status_code == 422
        assert [each["loc"] for each in answer.json()["detail"]] == [["body", missing]]


async def test_two_different_timeouts_are_refused(admin: AdminServer) -> None:
    answer = await admin.patch("endpoints/1", {"timeout": 30, "timeout_seconds": 31})
    assert [each["loc"] for each in answer.json()["detail"]] == [["body", "timeout_seconds"]]


async def test_an_unknown_field_shows_no_more_than_its_beginning(admin: AdminServer) -> None:
    answer = await admin.patch("endpoints/1", {"x" * 5000: 1})
    assert answer.json()["detail"][0]["loc"] == ["body", "x" * 100]


BODIES = {
    ("POST", "endpoints"): '{"name": "new", "base_url": "http://new.test/v1"}',
    ("PATCH", "endpoints"): '[{"id": 1, "fields": {"weight": 2}}]',
    ("DELETE", "endpoints"): "[1]",
    ("PATCH", "endpoints/1"): '{"weight": 2}',
    ("POST", "batch"): '{"create": [{"name": "new", "base_url": "http://new.test/v1"}]}',
    ("POST", "test"): '{"base_url": "http://new.test/v1"}',
    ("PATCH", "routing"): '{"routing_mode": "cost"}',
    ("PATCH", "incoming-pos"): '{"x": 1}',
    ("PATCH", "layout"): '{"endpoints": {"1": {"x": 1, "y": 2}}}',
    ("POST", "tokens"): '{"name": "laptop"}',
    ("PATCH", "tokens/1"): '{"name": "laptop"}',
    ("POST", "session"): '{"token": "x"}',
    ("POST", "explain"): '{"model": "llama"}',
}
NOT_JSON = ["", " ", "{", "[", "nope", '{"a": }', "{'a': 1}", '{"a": 1} x', '{"a": "\\ud800"}', "[" * 5000, "\ufeff{}"]
NOT_OBJECTS = ["null", "true", "5", '"text"', "NaN", "[{}]", "[null]", "[[]]"]


async def test_every_operation_with_a_body_is_tried_here(admin: AdminServer) -> None:
    with_body = {(each.method, each.path) for each in admin.api.operations if each.body is not None}
    assert with_body == {
        (method, "/" + path.replace("endpoints/1", "endpoints/{eid}").replace("tokens/1", "tokens/{tid}"))
        for method, path in BODIES
    }


@pytest.mark.parametrize(("method", "path"), BODIES)
class TestBodies:
    @pytest.mark.parametrize("text", NOT_JSON)
    async def test_malformed(self, admin: AdminServer, method: str, path: str, text: str) -> None:
        answer = await admin.client.request(method, path, content=text.encode(), headers=JSON_TYPE)
        assert answer.status_code == 400
        assert answer.json()["detail"].startswith("invalid JSON body")

    async def test_not_utf8(self, admin: AdminServer, method: str, path: str) -> None:
        answer = await admin.client.request(method, path, content=b'{"name": "\xff"}', headers=JSON_TYPE)
        assert answer.status_code == 400

    @pytest.mark.parametrize("text", NOT_OBJECTS)
    async def test_not_what_it_should_be(self, admin: AdminServer, method: str, path: str, text: str) -> None:
        answer = await admin.client.request(method, path, content=text.encode(), headers=JSON_TYPE)
        assert answer.status_code == 422
        assert all(each["loc"][0] == "body" for each in answer.json()["detail"])

    @pytest.mark.parametrize(
        "kind", ["text/plain", "application/x-www-form-urlencoded", "json", "application/jsonp", ""]
    )
    async def test_another_content_type(self, admin: AdminServer, method: str, path: str, kind: str) -> None:
        content = BODIES[method, path].encode()
        answer = await admin.client.request(method, path, content=content, headers={"content-type": kind})
        assert answer.status_code == 415

    async def test_too_long(self, admin: AdminServer, method: str, path: str) -> None:
        content = b'{"name": "%s"}' % (b"x" * 1024 * 1024)

        async def chunks() -> AsyncIterator[bytes]:
            yield content[:1000]
            yield content[1000:]

        for body in (content, chunks()):
            answer = await admin.client.request(method, path, content=body, headers=JSON_TYPE)
            assert answer.status_code == 413
            assert answer.headers["connection"] == "close"

    async def test_an_unknown_field(self, admin: AdminServer, method: str, path: str) -> None:
        body = json.loads(BODIES[method, path])
        if method == "DELETE":
            return
        (body[0] if isinstance(body, list) else body)["surprise"] = 1
        answer = await admin.client.request(method, path, json=body)
        assert answer.status_code == 422
        assert answer.json()["detail"][0]["loc"][-1] == "surprise"
        assert answer.json()["detail"][0]["msg"] == "unknown field"


@pytest.mark.parametrize(
    ("method", "path", "body", "loc"),
    [
        ("PATCH", "routing", {"routing_mode": "fastest"}, ["routing_mode"]),
        ("PATCH", "routing", {"routing_mode": None}, ["routing_mode"]),
        ("PATCH", "routing", {"routing_mode": "x" * 50}, ["routing_mode"]),
        ("PATCH", "routing", {}, ["routing_mode"]),
        ("PATCH", "incoming-pos", {"x": "1"}, ["x"]),
        ("PATCH", "incoming-pos", {"y": 1e7}, ["y"]),
        ("PATCH", "layout", {"endpoints": {"1": {"x": 1}}}, ["endpoints", "1", "y"]),
        ("PATCH", "layout", {"endpoints": {"one": {"x": 1, "y": 1}}}, ["endpoints", "one", "[key]"]),
        ("PATCH", "layout", {"endpoints": {"-1": {"x": 1, "y": 1}}}, ["endpoints", "-1", "[key]"]),
        ("PATCH", "layout", {"endpoints": {"9" * 30: {"x": 1, "y": 1}}}, ["endpoints", "9" * 30, "[key]"]),
        ("PATCH", "layout", {"incoming": {"x": 1, "y": None}}, ["incoming", "y"]),
        ("POST", "tokens", {"name": BAD_TEXT}, ["name"]),
        ("POST", "tokens", {"name": ""}, ["name"]),
        ("POST", "tokens", {"name": "a", "token": "short"}, ["token"]),
        ("POST", "tokens", {"name": "a", "token": "with blanks in it"}, ["token"]),
        ("POST", "tokens", {"name": "a", "token": "t" * 501}, ["token"]),
        ("POST", "tokens", {"name": "a", "pos_x": "left"}, ["pos_x"]),
        ("PATCH", "tokens/1", {"token": "another-token"}, ["token"]),
        ("POST", "session", {"token": 5}, ["token"]),
        ("POST", "session", {}, ["token"]),
        ("POST", "test", {}, ["base_url"]),
        ("POST", "test", {"base_url": "gopher://x"}, ["base_url"]),
        ("POST", "test", {"id": "1"}, ["id"]),
        ("PATCH", "endpoints", [{"id": 2**60, "fields": {}}], [0, "id"]),
        ("PATCH", "endpoints", [{"id": 1}], [0, "fields"]),
    ],
)
async def test_other_bad_values(admin: AdminServer, method: str, path: str, body: Any, loc: list[Any]) -> None:
    answer = await admin.client.request(method, path, json=body)
    assert answer.status_code == 422, answer.text
    assert answer.json()["detail"][0]["loc"] == ["body", *loc]


async def test_an_unknown_routing_mode_lists_the_valid_ones(admin: AdminServer) -> None:
    answer = await admin.patch("routing", {"routing_mode": "fastest"})
    for mode in ("percentage", "priority", "round_robin", "least_conn", "cost_optimized"):
        assert mode in answer.json()["detail"][0]["msg"]


@pytest.mark.parametrize(
    "path",
    ["endpoints/one", "endpoints/-1", "endpoints/1.0", "endpoints/" + "9" * 5000, "endpoints/%C2%B2", "revisions/x"],
)
async def test_a_path_without_a_number(admin: AdminServer, path: str) -> None:
    answer = await admin.client.get(path)
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"][0] == "path"


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("revisions?limit=0", "limit"),
        ("revisions?limit=201", "limit"),
        ("revisions?limit=ten", "limit"),
        ("revisions?before=0", "before"),
        ("revisions?before=99999999999999999999", "before"),
        ("requests?status=600", "status"),
        ("requests?status=5x", "status"),
        ("requests?endpoint=a", "endpoint"),
        ("requests?colour=red", "colour"),
        ("requests?%ff=1", "\ufffd"),
        ("series?seconds=901", "seconds"),
        ("series?minutes=43201", "minutes"),
        ("series?seconds=NaN", "seconds"),
    ],
)
async def test_a_bad_query(admin: AdminServer, path: str, name: str) -> None:
    answer = await admin.client.get(path)
    assert answer.status_code == 422
    assert [each["loc"] for each in answer.json()["detail"]] == [["query", name]]


async def test_a_series_has_one_scale(admin: AdminServer) -> None:
    assert (await admin.client.get("series?seconds=5&minutes=5")).status_code == 422


async def test_paths_and_methods_that_are_not_there(admin: AdminServer) -> None:
    for path in ("", "nothing", "endpoints/", "endpoints/1/2/3", "state/"):
        answer = await admin.client.get(path)
        assert (answer.status_code, answer.json()) == (404, {"detail": "not found"})
    answer = await admin.client.put("endpoints/1", json={})
    assert (answer.status_code, answer.json()) == (405, {"detail": "method not allowed"})
    assert answer.headers["allow"] == "GET, PATCH, DELETE"


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
NAMES = (
    st.sampled_from([*EVERY_FIELD, "timeout_seconds", "role", "id", "fields", "x", "endpoints", "token"]) | st.text()
)


@settings(max_examples=150)
@given(body=st.dictionaries(NAMES, JSON_VALUES, max_size=4) | JSON_VALUES)
async def test_whatever_comes_is_answered_below_500(admin: AdminServer, body: Any) -> None:
    content = json.dumps(body).encode()
    for method, path in (("POST", "test"), ("PATCH", "endpoints/99"), ("PATCH", "layout"), ("POST", "session")):
        if path == "layout" and body in ({}, {"endpoints": {}}):
            continue
        answer = await admin.client.request(method, path, content=content, headers=JSON_TYPE)
        assert answer.status_code < 500
