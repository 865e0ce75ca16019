"""The control plane's client: every way an endpoint can answer GET /models, and every way it cannot."""

from __future__ import annotations

import asyncio
import contextlib
import json
import select
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import respx
import trustme
from hypothesis import given
from hypothesis import strategies as st

from balancer.core.endpoints import Endpoint
from balancer.upstream.control import MAX_BODY_BYTES, MAX_MODELS, ControlClient, ModelsAnswer, models_in
from load_tester.fake_behaviour import Behaviour
from tests.fakes import FakeServer
from tests.stand_in import StandIn

KEY = "sk-very-secret"
ENDPOINT = Endpoint(id=1, name="a", base_url="http://backend.test/v1", api_key=KEY)
URL = "http://backend.test/v1/models"
LIST = {"object": "list", "data": [{"id": "m1", "owned_by": "x", "extra": {"a": 1}}, {"id": "m2"}]}

Peer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any]


@pytest.fixture
def router() -> Iterator[respx.Router]:
    yield respx.Router()


@pytest.fixture
async def control(router: respx.Router) -> AsyncIterator[ControlClient]:
    client = ControlClient(network=StandIn(router.async_handler))
    yield client
    await client.close()


@pytest.fixture
async def direct() -> AsyncIterator[ControlClient]:
    """A client on the real network, without proxies from outside."""
    client = ControlClient(environ={})
    yield client
    await client.close()


@asynccontextmanager
async def peer(talk: Peer, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """A server that reads a request head and then does as `talk` says; yields its port."""
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await reader.readuntil(b"\r\n\r\n")
            await talk(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError, ssl.SSLError):
            pass
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def at(port: int, scheme: str = "http") -> Endpoint:
    return replace(ENDPOINT, base_url=f"{scheme}://127.0.0.1:{port}/v1")


@contextmanager
def unused_port() -> Iterator[int]:
    """A port of 127.0.0.1 that is bound, so that nobody else gets it, and refuses connections."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


def test_answer_tells_its_ids() -> None:
    answer = ModelsAnswer("ok", "reachable", 200, ({"id": "b"}, {"id": "a"}))
    assert answer.ok
    assert answer.ids == ("b", "a")
    assert not ModelsAnswer("no_models_route", "", 404).ok


async def test_models_come_verbatim(router: respx.Router, control: ControlClient) -> None:
    route = router.get(URL).respond(json=LIST)
    answer = await control.models(ENDPOINT)
    assert (answer.ok, answer.verdict, answer.status) == (True, "ok", 200)
    assert list(answer.models) == LIST["data"]
    assert answer.ids == ("m1", "m2")
    assert answer.reason == "reachable, lists 2 models"
    assert answer.latency_seconds > 0
    sent = route.calls.last.request.headers
    assert sent["authorization"] == f"Bearer {KEY}"
    assert sent["accept-encoding"] == "identity"
    await control.models(replace(ENDPOINT, api_key=""))
    assert "authorization" not in route.calls.last.request.headers


@pytest.mark.parametrize(
    ("status", "verdict", "reason"),
    [
        (401, "credentials", "the key was refused (401)"),
        (403, "credentials", "the key was refused (403)"),
        (402, "credentials", "the account has to pay first (402)"),
        (404, "no_models_route", "answered 404 to GET /models: reachable, but lists no models"),
        (405, "no_models_route", "answered 405 to GET /models: reachable, but lists no models"),
        (407, "unreachable", "the proxy asks for credentials (407)"),
        (429, "error", "throttled: too many requests (429)"),
        (400, "error", "answered 400 to GET /models"),
        (500, "error", "answered 500 to GET /models"),
        (503, "error", "answered 503 to GET /models"),
    ],
)
async def test_refusals(router: respx.Router, control: ControlClient, status: int, verdict: str, reason: str) -> None:
    router.get(URL).respond(status, json={"error": {"message": f"you sent {KEY}"}})
    answer = await control.models(ENDPOINT)
    assert (answer.ok, answer.verdict, answer.status, answer.reason) == (False, verdict, status, reason)


async def test_nothing_is_kept_of_an_endpoint() -> None:
    network = StandIn(lambda _: httpx.Response(200, json=LIST))
    client = ControlClient(network=network)
    await client.models(ENDPOINT)
    await client.models(replace(ENDPOINT, id=7))
    assert network.forgotten == [1, 7]


async def test_missing_key_is_told_from_a_wrong_one(router: respx.Router, control: ControlClient) -> None:
    router.get(URL).respond(401)
    assert (await control.models(replace(ENDPOINT, api_key=""))).reason == "a key is needed (401)"


async def test_missing_route_hints_at_the_usual_base_url(router: respx.Router, control: ControlClient) -> None:
    router.get("http://backend.test/models").respond(404)
    answer = await control.models(replace(ENDPOINT, base_url="http://backend.test"))
    assert answer.reason.endswith("lists no models; base URLs usually end in /v1")


@pytest.mark.parametrize(
    ("location", "words"), [("https://backend.test/v1/models", " to https"), (f"/login?key={KEY}", ""), ("", "")]
)
async def test_redirects_are_not_followed(
    router: respx.Router, control: ControlClient, location: str, words: str
) -> None:
    route = router.get(URL).respond(308, headers={"location": location})
    answer = await control.models(ENDPOINT)
    assert (answer.verdict, answer.status) == ("redirect", 308)
    assert answer.reason == f"answered a redirect (308){words}: check the base URL"
    assert route.call_count == 1


@pytest.mark.parametrize(
    ("content", "content_type", "reason"),
    [
        (b"<html>", "text/html", "answered HTML"),
        (b" <!doctype html>", "application/json", "answered HTML"),
        (b"pong", "text/plain", "answered something that is not JSON"),
        (b"", "application/json", "answered without a body"),
        (b"\xff\xfe", "application/json", "answered something that is not JSON"),
        (b"[" * 200_000, "application/json", "answered something that is not JSON"),
        (b'[{"id": "x", "y": NaN}]', "application/json", "answered something that is not JSON"),
        (b"3", "application/json", "answered JSON, but no list of models"),
        (b'{"error": "x"}', "application/json", "answered JSON, but no list of models"),
        (b'{"data": {"id": "x"}}', "application/json", "answered JSON, but no list of models"),
        (b'{"data": [1, null, {}]}', "application/json", "answered JSON, but no list of models"),
    ],
)
async def test_what_is_no_list(
    router: respx.Router, control: ControlClient, content: bytes, content_type: str, reason: str
) -> None:
    router.get(URL).respond(200, content=content, headers={"content-type": content_type})
    answer = await control.models(ENDPOINT)
    assert (answer.verdict, answer.status) == ("not_openai", 200)
    assert answer.reason.startswith(reason)


async def test_compressed_bodies_are_refused(router: respx.Router, control: ControlClient) -> None:
    router.get(URL).respond(200, content=b"\x1f\x8b", headers={"content-encoding": "gzip"})
    assert (await control.models(ENDPOINT)).verdict == "not_openai"


@pytest.mark.parametrize(
    ("value", "ids"),
    [
        ({"models": [{"name": "llama3:8b", "size": 1}]}, ["llama3:8b"]),
        ({"models": [{"model": "x"}], "data": [{"id": "y"}]}, ["y"]),
        ([{"id": "a"}, {"name": "b"}], ["a", "b"]),
        (["a", "b"], ["a", "b"]),
        ({"data": []}, []),
        ({"object": "list", "data": None}, []),
        ({"data": [{"id": ""}, {"id": 3}, {"id": "x" * 257}, {"id": "a\nb"}, None, [], {"id": "ok"}]}, ["ok"]),
        ({"data": [{"id": "x" * 256}]}, ["x" * 256]),
        ({"data": [{"id": 3, "name": "named"}]}, ["named"]),
    ],
)
def test_lists_of_other_makes_are_understood(value: object, ids: list[str]) -> None:
    models = models_in(value)
    assert models is not None
    assert [model["id"] for model in models] == ids


def test_repeated_and_excess_models_are_left_out() -> None:
    first, second = {"id": "a", "n": 1}, {"id": "a", "n": 2}
    assert models_in([first, second]) == (first,)
    many = models_in([f"model-{number}" for number in range(MAX_MODELS + 5)])
    assert many is not None
    assert len(many) == MAX_MODELS


_JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["data", "models", "id", "name", "x"]), inner),
)


@given(_JSON)
def test_any_json_is_a_list_of_usable_models_or_none(value: object) -> None:
    models = models_in(value) or ()
    ids = [model["id"] for model in models]
    assert len(set(ids)) == len(ids)
    assert all(isinstance(name, str) and 0 < len(name) <= 256 for name in ids)


@pytest.mark.parametrize(
    "base_url",
    [
        "ftp://backend.test/v1",
        "http://",
        "http://[::1/v1",
        "nonsense",
        "http://a:b/v1",
        "http://127.0.0.1:99999",
        "http://a..b",
    ],
)
async def test_unusable_urls_are_told(direct: ControlClient, base_url: str) -> None:
    answer = await direct.models(replace(ENDPOINT, base_url=base_url))
    assert (answer.verdict, answer.status) == ("error", None)
    assert answer.reason.startswith("base_url: ")


@pytest.mark.parametrize("key", ["line\r\nbreak", "schlüssel", "\ud800"])
async def test_odd_keys_neither_raise_nor_leak(direct: ControlClient, key: str) -> None:
    async with FakeServer(Behaviour(api_key="right")) as fake:
        answer = await direct.models(Endpoint(id=1, name="a", base_url=fake.base_url, api_key=key))
        assert fake.stats.total_requests == 0
    assert (answer.verdict, answer.reason) == ("error", "api_key: holds characters that cannot be sent")


# --- on real sockets -------------------------------------------------------------------------------------------------


async def test_fake_backend_is_read(direct: ControlClient) -> None:
    async with FakeServer(Behaviour(models=("a/b", "c"), api_key=KEY)) as fake:
        answer = await direct.models(replace(ENDPOINT, base_url=fake.base_url))
        assert answer.ids == ("a/b", "c")
        await fake.wait_for(lambda stats: stats.connections == 0)
        assert fake.stats.requests == {"/v1/models": 1}


@pytest.mark.parametrize(
    ("fault", "verdict", "words"),
    [
        ("html", "not_openai", "answered HTML: is this the right base URL? it usually ends in /v1"),
        ("bad_json", "not_openai", "not JSON"),
        ("reset", "error", "reset the connection before answering at 127.0.0.1:"),
        ("cut", "error", "answer cut after "),
        ("malformed", "error", "; is it https rather than http?"),
        ("redirect", "redirect", "check the base URL"),
        ("empty_stream", "not_openai", "without a body"),
        ("error_in_200", "not_openai", "no list of models"),
        ("stall_headers", "timeout", "connected, but no answer within 0.5 s"),
        ("stall_body", "timeout", "the answer did not end within 0.5 s"),
    ],
)
async def test_faults_become_verdicts(direct: ControlClient, fault: str, verdict: str, words: str) -> None:
    client = ControlClient(timeout_seconds=0.5, environ={}) if "stall" in fault else direct
    async with FakeServer(Behaviour(fault_scope="get").changed({"fault": fault})) as fake:
        answer = await client.models(replace(ENDPOINT, base_url=fake.base_url))
    await client.close()
    assert answer.verdict == verdict
    assert words in answer.reason
    assert answer.status == (None if fault in ("reset", "malformed", "stall_headers") else answer.status)
    assert (answer.status == 200) == (fault not in ("reset", "malformed", "stall_headers", "redirect"))


async def test_refused_connection_names_its_place(direct: ControlClient) -> None:
    with unused_port() as port:
        answer = await direct.models(at(port))
        assert (answer.verdict, answer.status) == ("unreachable", None)
        assert answer.reason == f"connection refused at 127.0.0.1:{port}"
        several = await direct.models(replace(ENDPOINT, base_url=f"http://localhost:{port}"))
        assert several.reason == f"connection refused at localhost:{port}"


async def test_body_that_never_ends_ends_in_time() -> None:
    async def trickle(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n[")
        while True:
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0.01)

    client = ControlClient(timeout_seconds=0.5, environ={})
    async with peer(trickle) as port:
        answer = await client.models(at(port))
    await client.close()
    assert (answer.verdict, answer.status) == ("timeout", 200)
    assert answer.reason == "the answer did not end within 0.5 s"
    assert 0.4 < answer.latency_seconds < 5


@pytest.mark.parametrize("extra", [0, 1])
async def test_reading_stops_at_four_megabytes(direct: ControlClient, extra: int) -> None:
    sent = 0

    async def pour(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        text = json.dumps(LIST).encode()
        total = MAX_BODY_BYTES if not extra else 100 * MAX_BODY_BYTES
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % total + text)
        sent = len(text)
        while sent < total:
            piece = b" " * min(65_536, total - sent)
            writer.write(piece)
            await writer.drain()
            sent += len(piece)

    async with peer(pour) as port:
        answer = await direct.models(at(port))
    assert answer.verdict == ("not_openai" if extra else "ok")
    assert sent < 20 * MAX_BODY_BYTES
    if extra:
        assert answer.reason == "answered more than 4 MB: no list of models is that long"


async def test_wrong_schemes_are_recognised(direct: ControlClient) -> None:
    async with FakeServer() as fake:
        answer = await direct.models(at(fake.port, "https"))
    assert answer.verdict == "unreachable"
    assert "is it http rather than https?" in answer.reason


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def server_tls(authority: trustme.CA, name: str = "127.0.0.1") -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context


async def answer_list(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    body = json.dumps(LIST).encode()
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
    await writer.drain()


async def test_certificates_are_checked_unless_told_otherwise(
    direct: ControlClient, authority: trustme.CA, tmp_path: Path
) -> None:
    trusted = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(trusted))
    knowing = ControlClient(ca_file=str(trusted), environ={})
    async with peer(answer_list, server_tls(authority)) as port:
        endpoint = at(port, "https")
        refused = await direct.models(endpoint)
        unchecked = await direct.models(replace(endpoint, verify_tls=False))
        checked = await knowing.models(endpoint)
    async with peer(answer_list, server_tls(authority, "other.test")) as port:
        misnamed = await knowing.models(at(port, "https"))
    await knowing.close()
    assert refused.verdict == "unreachable"
    assert refused.reason.startswith("TLS: certificate verify failed: ")
    assert unchecked.ok
    assert checked.ok
    assert misnamed.reason.startswith("TLS: certificate verify failed: IP address mismatch")


async def test_certificate_asked_of_us_is_told(authority: trustme.CA, tmp_path: Path) -> None:
    trusted = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(trusted))
    tls = server_tls(authority)
    tls.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(tls)
    client = ControlClient(ca_file=str(trusted), environ={})
    async with peer(answer_list, tls) as port:
        answer = await client.models(at(port, "https"))
    await client.close()
    assert answer.verdict in ("error", "unreachable")
    assert "127.0.0.1" in answer.reason


async def test_handshake_that_ends_is_told(direct: ControlClient) -> None:
    def close_at_once(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(close_at_once, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    answer = await direct.models(at(port, "https"))
    server.close()
    assert answer.verdict == "unreachable"
    assert answer.reason.endswith(f"at 127.0.0.1:{port}")


async def test_missing_certificate_file_is_told() -> None:
    client = ControlClient(ca_file="/nowhere/ca.pem", environ={})
    answer = await client.models(replace(ENDPOINT, base_url="https://backend.test/v1"))
    assert (answer.verdict, answer.reason) == ("error", "the certificate authorities cannot be read")


async def test_environment_proxies_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    async with FakeServer() as fake:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{fake.port}")
        client = ControlClient()
        answer = await client.models(ENDPOINT)
        await client.close()
        assert fake.stats.last_headers["host"] == "backend.test"
        assert fake.stats.total_requests == 1
    assert answer.status == 404, "the fake knows no absolute URLs, which is how this one came"


@pytest.mark.parametrize(
    ("proxy", "words"), [("socks9://127.0.0.1", "proxy: scheme 'socks9'"), ("http://127.0.0.1:1", "proxy: connection")]
)
async def test_a_proxy_that_cannot_be_used_is_told(proxy: str, words: str) -> None:
    answer = await ControlClient(environ={"http_proxy": proxy}).models(ENDPOINT)
    assert answer.verdict == "unreachable"
    assert answer.reason.startswith(words) and "backend.test" not in answer.reason


@pytest.mark.parametrize("key", ["", KEY])
async def test_nobody_there_to_take_a_connection_is_a_timeout(key: str) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listening:
        port = listening.getsockname()[1]
        with contextlib.ExitStack() as waiting:
            for _ in range(5):  # more than the backlog holds: until one of them is not taken
                filler = waiting.enter_context(socket.socket())
                filler.setblocking(False)
                filler.connect_ex(("127.0.0.1", port))
                if not select.select([], [filler], [], 0.3)[1]:
                    break
            client = ControlClient(timeout_seconds=1.5, environ={})
            answer = await client.models(replace(at(port), api_key=key))
            await client.close()
    assert (answer.verdict, answer.status) == ("timeout", None)
    assert answer.reason == "no connection within 1.5 s"


async def test_cancelling_leaves_the_client_usable(direct: ControlClient) -> None:
    async with FakeServer(Behaviour(fault="stall_headers", fault_scope="get", fault_count=20)) as fake:
        endpoint = replace(ENDPOINT, base_url=fake.base_url)
        probes = [asyncio.create_task(direct.models(endpoint)) for _ in range(20)]
        await fake.wait_for(lambda stats: stats.inflight == 20)
        for probe in probes:
            probe.cancel()
        outcomes = await asyncio.gather(*probes, return_exceptions=True)
        assert all(isinstance(outcome, asyncio.CancelledError) for outcome in outcomes)
        await fake.wait_for(lambda stats: stats.connections == 0)
        assert (await direct.models(endpoint)).ok
