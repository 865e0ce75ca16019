"""Making connections: TCP, TLS, and the way through a forward proxy, within one time limit.

Every failure leaves here as a `ConnectError` in plain words; a cancelled attempt leaves no socket behind.
"""

from __future__ import annotations

import asyncio
import errno
import os
import re
import socket
import ssl

from balancer.core.errors import ConnectError
from balancer.upstream.addresses import REFUSED, is_refused
from balancer.upstream.targets import Proxy, Target

_TUNNEL_HEAD_LIMIT = 16 * 1024
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-9][0-9]{2})[ \r]")
_ERRNO_IN_TEXT = re.compile(r"\[Errno (\d+)\]")

_WORDS = {
    errno.ECONNREFUSED: "connection refused",
    errno.ECONNRESET: "connection reset",
    errno.EHOSTUNREACH: "host unreachable",
    errno.ENETUNREACH: "network unreachable",
    errno.ETIMEDOUT: "connect timed out",
    errno.EMFILE: "too many open files",
    errno.ENFILE: "too many open files",
    errno.EADDRNOTAVAIL: "no local port left",
}


class Dialer:
    """Connects protocols to targets. `ca_file` replaces the system's certificate authorities.

    `allow_link_local`: also to link-local addresses and those of cloud metadata.
    """

    def __init__(
        self, *, connect_timeout_seconds: float, ca_file: str | None = None, allow_link_local: bool = False
    ) -> None:
        self._timeout_seconds = connect_timeout_seconds
        self._allow_link_local = allow_link_local
        self._ca_file = ca_file
        self._contexts: dict[bool, ssl.SSLContext] = {}

    async def dial(self, target: Target, verify_tls: bool, protocol: asyncio.Protocol) -> None:
        """Connect `protocol`: after this its `connection_made` was called. Raises ConnectError."""
        self._require_allowed(target.host)
        inner = self._context(verify_tls) if target.tls else None
        # The way to the proxy is always verified: `verify_tls` is a statement about the endpoint.
        outer = self._context(True) if target.proxy is not None and target.proxy.tls else None
        try:
            async with asyncio.timeout(self._timeout_seconds):
                if target.proxy is None:
                    host, port = target.connect_to or (target.host, target.port)
                    transport = await _connect(protocol, host, port, inner, server_name=target.host)
                    # Where the name led this time; nothing of a request was sent yet.
                    self._require_allowed((transport.get_extra_info("peername") or ("",))[0])
                elif inner is None:
                    await _connect_to_proxy(protocol, target.proxy, outer)
                else:
                    await _tunnel(protocol, target, target.proxy, outer, inner)
        except TimeoutError as error:
            # The kernel's ETIMEDOUT is the same class, but with a number.
            limit = f" after {self._timeout_seconds:g} s" if error.errno is None else ""
            raise ConnectError(f"connect timed out{limit}") from error
        except OSError as error:
            raise ConnectError(_in_words(error)) from error

    def _require_allowed(self, host: str) -> None:
        if not self._allow_link_local and is_refused(host):
            raise ConnectError(REFUSED)

    def _context(self, verify: bool) -> ssl.SSLContext:
        # Loading the certificate authorities takes milliseconds: once, and not before somebody needs it.
        context = self._contexts.get(verify)
        if context is None:
            context = ssl.create_default_context(cafile=self._ca_file)
            context.set_alpn_protocols(["http/1.1"])
            if not verify:
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
            self._contexts[verify] = context
        return context


async def _connect(
    protocol: asyncio.Protocol, host: str, port: int, context: ssl.SSLContext | None, *, server_name: str
) -> asyncio.Transport:
    loop = asyncio.get_running_loop()
    # A name without TLS is refused by the loop.
    name = None if context is None else server_name
    transport, _ = await loop.create_connection(lambda: protocol, host, port, ssl=context, server_hostname=name)
    return transport


async def _connect_to_proxy(
    protocol: asyncio.Protocol, proxy: Proxy, context: ssl.SSLContext | None
) -> asyncio.Transport:
    try:
        return await _connect(protocol, proxy.host, proxy.port, context, server_name=proxy.host)
    except TimeoutError:
        raise
    except OSError as error:
        raise ConnectError(f"proxy: {_in_words(error)}") from error


async def _tunnel(
    protocol: asyncio.Protocol, target: Target, proxy: Proxy, outer: ssl.SSLContext | None, inner: ssl.SSLContext
) -> None:
    loop = asyncio.get_running_loop()
    tunnel = _Tunnel(loop)
    transport = await _connect_to_proxy(tunnel, proxy, outer)
    try:
        await tunnel.establish(transport, target.tunnel_authority, proxy.authorization)
        secured = await loop.start_tls(transport, protocol, inner, server_hostname=target.host)
    except BaseException:
        transport.abort()
        raise
    if secured is None:
        raise ConnectError("TLS: connection closed during the handshake")
    protocol.connection_made(secured)


class _Tunnel(asyncio.Protocol):
    """The exchange of CONNECT with a proxy (RFC 9110, 9.3.6), before TLS takes the transport over."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._verdict: asyncio.Future[str] = loop.create_future()
        self._head = b""

    async def establish(self, transport: asyncio.WriteTransport, authority: bytes, authorization: bytes) -> None:
        """Ask for the tunnel and wait for the 2xx. Raises ConnectError."""
        credentials = b"proxy-authorization: %b\r\n" % authorization if authorization else b""
        transport.write(b"CONNECT %b HTTP/1.1\r\nhost: %b\r\n%b\r\n" % (authority, authority, credentials))
        if problem := await self._verdict:
            raise ConnectError(f"proxy: {problem}")

    def data_received(self, data: bytes) -> None:
        self._head += data
        end = self._head.find(b"\r\n\r\n")
        if end < 0:
            if len(self._head) > _TUNNEL_HEAD_LIMIT:
                self._settle("response head over 16 KB")
            return
        status = _STATUS_LINE.match(self._head)
        if status is None:
            self._settle("not an HTTP/1.1 answer to CONNECT")
        elif not status[1].startswith(b"2"):
            self._settle(f"answered {status[1].decode()} to CONNECT")
        elif len(self._head) > end + 4:
            # In TLS the client speaks first, so these bytes are the proxy's own.
            self._settle("sent bytes of its own into the tunnel")
        else:
            self._settle("")

    def connection_lost(self, exc: Exception | None) -> None:
        self._settle("closed the connection before answering CONNECT")

    def _settle(self, problem: str) -> None:
        if not self._verdict.done():
            self._verdict.set_result(problem)


def _in_words(error: OSError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"TLS: certificate verify failed: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS: {(error.reason or 'handshake failed').replace('_', ' ').lower()}"
    if isinstance(error, socket.gaierror):
        return "name server not answering" if error.errno == socket.EAI_AGAIN else "name not known"
    number = error.errno
    if number is None and (found := _ERRNO_IN_TEXT.search(str(error))):
        # Several addresses failed in several ways: the loop keeps their numbers in its text only.
        number = int(found[1])
    if number is None:
        # TCP failures carry a number; the loops raise this one themselves.
        return "TLS: connection closed during the handshake"
    return _WORDS.get(number) or os.strerror(number).lower()
