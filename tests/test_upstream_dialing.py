"""How endpoints are reached: base URLs, TLS, proxies."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme

from balancer.core.endpoints import Endpoint
from balancer.core.errors import ConnectError
from balancer.upstream.targets import Proxies, Proxy, target_of
from tests.raw_server import (
    RawRequest,
    RawServer,
    Script,
    answer,
    both_loops,
    chunked,
    eventually,
    read_request,
    says,
    says_and_closes,
)
from tests.upstream_client import STREAM_HEAD, ask, connections, endpoint, post, whole

# -- TLS


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def ca_file(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = Path(tmp_path_factory.mktemp("tls")) / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return str(path)


@pytest.fixture(scope="module")
def server_context(authority: trustme.CA) -> Callable[[str], ssl.SSLContext]:
    def make(name: str) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.set_alpn_protocols(["h2", "http/1.1"])
        authority.issue_cert(name).configure_cert(context)
        return context

    return make


ServerContext = Callable[[str], ssl.SSLContext]


@both_loops
async def test_tls(ca_file: str, server_context: ServerContext) -> None:
    protocols = []

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        protocols.append(writer.get_extra_info("ssl_object").selected_alpn_protocol())
        await says(STREAM_HEAD + chunked(b"se", b"cret"))(reader, writer)

    async with RawServer(script, ssl=server_context("127.0.0.1")) as server, connections(ca_file=ca_file) as client:
        assert await ask(client, endpoint(server)) == b"secret"
        assert await ask(client, endpoint(server)) == b"secret"
        assert server.connections == 1
        assert protocols == ["http/1.1"]


@both_loops
async def test_tls_without_length(ca_file: str, server_context: ServerContext) -> None:
    script = says_and_closes(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 300_000)
    async with RawServer(script, ssl=server_context("127.0.0.1")) as server, connections(ca_file=ca_file) as client:
        assert await ask(client, endpoint(server)) == b"x" * 300_000


@both_loops
async def test_tls_large_both_ways(ca_file: str, server_context: ServerContext) -> None:
    seen: list[RawRequest] = []
    script = says(answer(b"y" * 3_000_000), seen=seen)
    async with RawServer(script, ssl=server_context("127.0.0.1")) as server, connections(ca_file=ca_file) as client:
        for _ in range(2):
            assert await whole(await post(client, endpoint(server), b"x" * 3_000_000)) == b"y" * 3_000_000
        assert seen[0].body == b"x" * 3_000_000
        assert server.connections == 1


@both_loops
async def test_an_unknown_authority_is_refused_unless_told_otherwise(server_context: ServerContext) -> None:
    async with RawServer(says(answer()), ssl=server_context("127.0.0.1")) as server, connections() as client:
        with pytest.raises(ConnectError, match=r"^TLS: certificate verify failed: \w+"):
            await ask(client, endpoint(server))
        assert await ask(client, endpoint(server, verify_tls=False)) == b"ok"
        # Verification again means a connection of its own.
        with pytest.raises(ConnectError, match=r"^TLS: certificate verify failed"):
            await ask(client, endpoint(server))
        await eventually(lambda: not server.running)


@both_loops
async def test_a_certificate_for_another_host_is_refused(ca_file: str, server_context: ServerContext) -> None:
    context = server_context("elsewhere.example")
    async with RawServer(says(answer()), ssl=context) as server, connections(ca_file=ca_file) as client:
        with pytest.raises(ConnectError, match=r"certificate verify failed: .*127\.0\.0\.1"):
            await ask(client, endpoint(server))


# -- base URLs


@pytest.mark.parametrize(
    ("base_url", "authority", "path", "host", "port"),
    [
        ("http://h", b"h", b"", "h", 80),
        ("http://h:80/v1/", b"h", b"/v1", "h", 80),
        ("https://h:443/v1", b"h", b"/v1", "h", 443),
        ("https://h:80", b"h:80", b"", "h", 80),
        ("http://H.Example:8000/A/b", b"h.example:8000", b"/A/b", "h.example", 8000),
        ("http://[::1]/v1", b"[::1]", b"/v1", "::1", 80),
        ("http://[fe80::1%25eth0]:81", b"[fe80::1]:81", b"", "fe80::1%25eth0", 81),
        ("http://bücher.example/ü%20", b"xn--bcher-kva.example", b"/%C3%BC%20", "xn--bcher-kva.example", 80),
        ("http://my_service:1/", b"my_service:1", b"", "my_service", 1),
    ],
)
def test_base_urls(base_url: str, authority: bytes, path: bytes, host: str, port: int) -> None:
    target = target_of(base_url, Proxies({}))
    assert (target.authority, target.path, target.host, target.port) == (authority, path, host, port)
    assert target.tls == base_url.startswith("https")


@pytest.mark.parametrize(
    ("base_url", "words"),
    [
        ("ftp://h", "scheme 'ftp' is not supported, http and https are"),
        ("h:8000", "scheme 'h' is not supported, http and https are"),
        ("http://", "not a valid host name"),
        ("http://a b/", "not a valid host name"),
        ("http://h:99999", "not a valid URL"),
        ("http://[::1", "not a valid URL"),
        ("http://u:secret@h", "user, query and fragment are not supported"),
        ("http://h?key=secret", "user, query and fragment are not supported"),
        ("http://" + "ä" * 80, "not a valid host name"),
    ],
)
def test_base_urls_that_lead_nowhere(base_url: str, words: str) -> None:
    with pytest.raises(ConnectError) as caught:
        target_of(base_url, Proxies({}))
    assert str(caught.value) == f"base_url: {words}"


# -- proxies


def relay_to(server: RawServer, seen: list[RawRequest], established: bytes = b"HTTP/1.1 200 OK\r\n\r\n") -> Script:
    """A proxy that tunnels to that server, wherever it was asked to go."""

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await read_request(reader))
        writer.write(established)
        onward, back = await asyncio.open_connection("127.0.0.1", server.port)
        try:
            await asyncio.gather(pump(reader, back), pump(onward, writer))
        finally:
            back.close()

    return script


@both_loops
async def test_http_goes_through_a_proxy_in_absolute_form() -> None:
    seen: list[RawRequest] = []
    async with (
        RawServer(says(answer(), seen=seen)) as proxy,
        connections(environ={"http_proxy": f"http://u%40x:pass@127.0.0.1:{proxy.port}"}) as client,
    ):
        for _ in range(2):
            assert await ask(client, Endpoint(1, "one", "http://far.example:8000/v1", "sk")) == b"ok"
        assert proxy.connections == 1
        assert seen[1].lines == [
            b"POST http://far.example:8000/v1/chat/completions HTTP/1.1",
            b"host: far.example:8000",
            b"authorization: Bearer sk",
            b"proxy-authorization: Basic dUB4OnBhc3M=",
            b"content-length: 2",
        ]


@both_loops
async def test_https_goes_through_a_tunnel(ca_file: str, server_context: ServerContext) -> None:
    seen: list[RawRequest] = []
    through: list[RawRequest] = []
    async with (
        RawServer(says(answer(), seen=through), ssl=server_context("far.example")) as server,
        RawServer(relay_to(server, seen)) as proxy,
        connections(environ={"HTTPS_PROXY": f"u:p@127.0.0.1:{proxy.port}"}, ca_file=ca_file) as client,
    ):
        for _ in range(2):
            assert await ask(client, Endpoint(1, "one", "https://far.example/v1")) == b"ok"
        assert [request.lines for request in seen] == [
            [
                b"CONNECT far.example:443 HTTP/1.1",
                b"host: far.example:443",
                b"proxy-authorization: Basic dTpw",
            ]
        ]
        assert through[0].lines[:2] == [b"POST /v1/chat/completions HTTP/1.1", b"host: far.example"]


@both_loops
async def test_the_way_to_the_proxy_may_be_tls_too(ca_file: str, server_context: ServerContext) -> None:
    async with (
        RawServer(says(answer(b"z" * 500_000)), ssl=server_context("far.example")) as server,
        RawServer(relay_to(server, []), ssl=server_context("127.0.0.1")) as proxy,
        connections(environ={"all_proxy": proxy.url}, ca_file=ca_file) as client,
    ):
        assert await ask(client, Endpoint(1, "one", "https://far.example/v1")) == b"z" * 500_000


@both_loops
async def test_the_certificate_inside_a_tunnel_is_verified(server_context: ServerContext, ca_file: str) -> None:
    async with (
        RawServer(says(answer()), ssl=server_context("other.example")) as server,
        RawServer(relay_to(server, [])) as proxy,
        connections(environ={"https_proxy": proxy.url}, ca_file=ca_file) as client,
    ):
        with pytest.raises(ConnectError, match=r"^TLS: certificate verify failed: .*far\.example"):
            await ask(client, Endpoint(1, "one", "https://far.example/v1"))
        await eventually(lambda: not proxy.running)


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (says(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n"), "proxy: answered 407 to CONNECT"),
        (says(b"SSH-2.0 hello\r\n\r\n"), "proxy: not an HTTP/1.1 answer to CONNECT"),
        (says(b"HTTP/1.1 200 OK\r\n\r\nextra"), "proxy: sent bytes of its own into the tunnel"),
        (says(b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 5000), "proxy: response head over 16 KB"),
        (says_and_closes(b"HTTP/1.1 200"), "proxy: closed the connection before answering CONNECT"),
        (says_and_closes(b"HTTP/1.1 200 OK\r\n\r\n"), "TLS: connection closed during the handshake"),
    ],
    ids=["407", "no HTTP", "surplus", "long head", "closed", "closed after CONNECT"],
)
@both_loops
async def test_proxies_that_decline(script: Script, words: str) -> None:
    async with RawServer(script) as proxy, connections(environ={"https_proxy": proxy.url}) as client:
        with pytest.raises(ConnectError) as caught:
            await ask(client, Endpoint(1, "one", "https://far.example/v1"))
        assert str(caught.value) == words
        await eventually(lambda: not proxy.running)


@both_loops
async def test_a_proxy_that_is_down() -> None:
    async with connections(environ={"all_proxy": "http://127.0.0.1:1"}) as client:
        for scheme in ("http", "https"):
            with pytest.raises(ConnectError, match=r"^proxy: connection refused$"):
                await ask(client, Endpoint(1, "one", f"{scheme}://far.example/v1"))


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"all_proxy": "socks5://u:secret@h:1"}, "proxy: scheme 'socks5' is not supported, http and https are"),
        ({"all_proxy": "http://u:secret@h:port"}, "proxy: not a valid URL"),
        ({"all_proxy": "http://u:secret@"}, "proxy: not a valid host name"),
    ],
)
def test_proxies_that_cannot_be_used(variables: dict[str, str], words: str) -> None:
    with pytest.raises(ConnectError) as caught:
        Proxies(variables).choose(True, "far.example", 443)
    assert str(caught.value) == words


def test_a_proxy_does_not_show_its_password() -> None:
    proxy = Proxies({"http_proxy": "http://user:secret@h:3128"}).choose(False, "far.example", 80)
    assert repr(proxy) == "Proxy(tls=False, host='h', port=3128)"


@pytest.mark.parametrize(
    ("variables", "tls", "expected"),
    [
        ({}, True, None),
        ({"HTTP_PROXY": "http://a:1"}, True, None),
        ({"HTTP_PROXY": "http://a:1"}, False, Proxy(False, "a", 1)),
        ({"HTTP_PROXY": "http://a:1", "http_proxy": "b"}, False, Proxy(False, "b", 80)),
        ({"HTTP_PROXY": "http://a:1", "http_proxy": ""}, False, None),
        ({"ALL_PROXY": "https://a"}, True, Proxy(True, "a", 443)),
        ({"ALL_PROXY": "https://a", "https_proxy": "http://[::1]:2"}, True, Proxy(False, "::1", 2)),
    ],
)
def test_which_variable_names_the_proxy(variables: dict[str, str], tls: bool, expected: Proxy | None) -> None:
    assert Proxies(variables).choose(tls, "far.example", 443 if tls else 80) == expected


@pytest.mark.parametrize(
    ("no_proxy", "host", "port", "direct"),
    [
        ("*", "far.example", 80, True),
        ("", "far.example", 80, False),
        ("example", "far.example", 80, True),
        ("far.example", "far.example", 80, True),
        ("far.example", "toofar.example", 80, False),
        (".far.example", "far.example", 80, True),
        (".far.example", "a.far.example", 80, True),
        ("*.far.example", "a.far.example", 80, True),
        ("FAR.example.", "far.example", 80, True),
        ("far.example:81", "far.example", 80, False),
        ("far.example:80", "far.example", 80, True),
        ("x, far.example", "far.example", 80, True),
        ("x far.example", "far.example", 80, True),
        ("far.example", "far.example.", 80, True),
        ("10.0.0.0/8", "10.1.2.3", 80, True),
        ("10.0.0.0/8", "11.1.2.3", 80, False),
        ("10.0.0.0/8", "ten.example", 80, False),
        ("10.0.0.0/99", "10.0.0.1", 80, False),
        ("10.1.2.3", "10.1.2.3", 80, True),
        ("2.3", "10.1.2.3", 80, False),
        ("10.1.2.3:81", "10.1.2.3", 80, False),
        ("::1", "::1", 80, True),
        ("0:0:0:0:0:0:0:1", "::1", 80, True),
        ("[::1]:80", "::1", 80, True),
        ("[::1]:81", "::1", 80, False),
        ("fe80::/10", "fe80::5", 80, True),
        (".", "far.example", 80, False),
        (",,", "far.example", 80, False),
    ],
)
def test_what_no_proxy_covers(no_proxy: str, host: str, port: int, direct: bool) -> None:
    proxies = Proxies({"all_proxy": "http://proxy:1", "NO_PROXY": no_proxy})
    assert (proxies.choose(False, host, port) is None) == direct
