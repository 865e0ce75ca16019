"""Who may use the load tester: the token, the browser session, and what keeps other sites out.

Without a token it serves this machine only, and then answers to this machine's own names only: otherwise any web page
could reach it through a name of its own that leads to 127.0.0.1. Changes by a session need its CSRF token.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

SESSION_COOKIE = "lt_session"
SESSION_SECONDS = 12 * 3600
_SAFE_METHODS = frozenset(("GET", "HEAD", "OPTIONS"))


@dataclass(frozen=True, slots=True)
class Session:
    """A browser that may use it until `expires_at` (Unix seconds)."""

    value: str
    csrf_token: str
    expires_at: int


@dataclass(frozen=True, slots=True)
class Visitor:
    """Somebody who may: by `session`, or by the token itself where that is None."""

    session: Session | None


@dataclass(frozen=True, slots=True)
class Refusal:
    """Somebody who may not: the HTTP status, and what to do about it."""

    status: int
    detail: str


class Access:
    """Checks requests. `token` empty: everybody on this machine may, with a session of their own."""

    def __init__(self, token: str) -> None:
        self.needs_token = bool(token)
        self._digest = hashlib.sha256(token.encode()).digest()
        # Of the token, so that sessions survive a restart; without one there is nothing to survive.
        secret = self._digest if token else secrets.token_bytes(32)
        self._session_key = hmac.digest(secret, b"lt session", "sha256")
        self._csrf_key = hmac.digest(secret, b"lt csrf", "sha256")

    def check(self, headers: Iterable[tuple[bytes, bytes]], method: str, now: float) -> Visitor | Refusal:
        """What a request may do; `headers` as ASGI gives them, `now` in Unix seconds."""
        tokens, cookies, csrf, host = _credentials(headers)
        if not self.needs_token and not is_own_name(host):
            return Refusal(403, "without LT_TOKEN the load tester answers to localhost and 127.0.0.1 only")
        if self.needs_token and any(self.is_token(token) for token in tokens):
            return Visitor(None)
        session = next((found for cookie in cookies if (found := self._session(cookie, now))), None)
        if session is None:
            return Refusal(401, "log in first: POST /api/session" if self.needs_token else "GET /api/session first")
        if method not in _SAFE_METHODS and not hmac.compare_digest(csrf, session.csrf_token.encode()):
            return Refusal(403, "the header X-CSRF-Token is missing or wrong: GET /api/session tells it")
        return Visitor(session)

    def is_token(self, given: bytes) -> bool:
        """Whether it is the token, in constant time."""
        return self.needs_token and hmac.compare_digest(hashlib.sha256(given).digest(), self._digest)

    def new_session(self, now: float) -> Session:
        """A session that begins now."""
        return self._signed(f"{int(now) + SESSION_SECONDS}.{secrets.token_urlsafe(16)}")

    def set_cookie(self, session: Session, *, secure: bool) -> str:
        """The Set-Cookie value that begins it."""
        return _cookie(session.value, SESSION_SECONDS) + ("; Secure" if secure else "")

    def clear_cookie(self) -> str:
        """The Set-Cookie value that ends it in this browser."""
        return _cookie("", 0)

    def _session(self, value: bytes, now: float) -> Session | None:
        content, _, signature = value.rpartition(b".")
        if not hmac.compare_digest(signature, _mac(self._session_key, content).encode()):
            return None
        session = self._signed(content.decode())
        return session if now < session.expires_at else None

    def _signed(self, content: str) -> Session:
        raw = content.encode()
        value = f"{content}.{_mac(self._session_key, raw)}"
        return Session(value, _mac(self._csrf_key, raw), int(content.partition(".")[0]))


def is_own_name(host: bytes) -> bool:
    """Whether a Host header names this machine by a name that nobody else can give it."""
    text = host.decode("latin-1").strip().lower()
    name = text[1:].partition("]")[0] if text.startswith("[") else text.partition(":")[0]
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost" or name.endswith(".localhost")


def _mac(key: bytes, message: bytes) -> str:
    return hmac.digest(key, message, "sha256").hex()


def _cookie(value: str, max_age_seconds: int) -> str:
    return f"{SESSION_COOKIE}={value}; Max-Age={max_age_seconds}; Path=/; HttpOnly; SameSite=Strict"


def _credentials(headers: Iterable[tuple[bytes, bytes]]) -> tuple[list[bytes], list[bytes], bytes, bytes]:
    """Tokens, values of our cookie, the CSRF token and the host."""
    tokens: list[bytes] = []
    cookies: list[bytes] = []
    found: Mapping[str, list[bytes]] = {"csrf": [], "host": []}
    for name, value in headers:
        if name == b"authorization" and value[:7].lower() == b"bearer ":
            tokens.append(value[7:].strip())
        elif name == b"x-csrf-token":
            found["csrf"].append(value)
        elif name == b"host":
            found["host"].append(value)
        elif name == b"cookie":
            pairs = (pair.strip().partition(b"=") for pair in value.split(b";"))
            cookies += [content.strip(b'"') for key, _, content in pairs if key == SESSION_COOKIE.encode()]
    return tokens, cookies, (found["csrf"] or [b""])[0], (found["host"] or [b""])[0]
