"""Who may ask: client tokens of the data plane, the admin token and its browser session.

Answers from memory, synchronously and in constant time for every guess; never reads a clock (`now` is Unix seconds)
or the database. Tokens are kept as SHA-256 digests, or as keys derived from them, never as text.
"""

from __future__ import annotations

import enum
import hashlib
import hmac
import os
import re
import secrets
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from balancer.core.errors import BalancerError
from balancer.series import Rate

SESSION_COOKIE = "lb_session"
# Fixed from login, never extended: an editor left open asks every second and would keep itself logged in for ever.
SESSION_SECONDS = 12 * 3600

_VISIBLE_ASCII = re.compile(r"[!-~]+")
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_DIGEST_KEY_BYTES = 16


class AdminTokenUnavailable(BalancerError):
    """The file of the generated admin token can be neither read nor created; the message says what to do."""


def is_token(text: str) -> bool:
    """Whether `text` can travel in a header unchanged: one or more visible ASCII characters.

    Wider than what RFC 6750 section 2.1 grants a bearer token, since operators bring tokens they already have.
    """
    return _VISIBLE_ASCII.fullmatch(text) is not None


def new_token() -> str:
    """A random client token with 256 bits of chance."""
    return "ct-" + secrets.token_urlsafe(32)


def preview(token: str) -> str:
    """Enough of a secret to recognise it: its ends, or two characters of a short one, "" of an empty one."""
    if not token:
        return ""
    if len(token) <= 8:
        return token[:2] + "***"
    return f"{token[:4]}...{token[-4:]}"


def token_digest(token: str) -> bytes:
    """What is stored instead of a token. Unsalted: tokens are random, and lookup needs one digest per request."""
    return hashlib.sha256(token.encode()).digest()


@dataclass(slots=True, eq=False)
class ClientToken:
    """One client as it lives: who it is and what it has used. Times are Unix seconds.

    `id` is None for tokens from the environment and for the anonymous client.
    """

    id: int | None
    name: str
    preview: str = ""
    created_at: float | None = None
    pos_x: float = 80.0
    pos_y: float = 100.0
    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    last_used_at: float | None = None
    rate: Rate = field(default_factory=Rate, repr=False)
    token_rate: Rate = field(default_factory=Rate, repr=False)


class ClientTokens:
    """All client tokens in force.

    Open to everybody (as `anonymous`) only while no token is in the environment and none was ever in the database.
    Closed until `replace` has told what the database holds: when that cannot be read, only tokens of the environment
    count. `on_change`, when set, is called after every change of who may ask.
    """

    def __init__(self, env_tokens: Iterable[str] = ()) -> None:
        self.on_change: Callable[[], None] | None = None
        self.anonymous = ClientToken(None, "anonymous")
        self._closed = True
        self._rows_exist = False
        self._env = {
            token_digest(token): ClientToken(None, f"env-{number}", preview(token))
            for number, token in enumerate(dict.fromkeys(env_tokens), start=1)
        }
        self._rows: dict[bytes, ClientToken] = {}
        self._index()

    def __repr__(self) -> str:
        state = "open" if self._open else "closed" if self._closed else "guarded"
        return f"<ClientTokens {state}: {len(self._env)} from the environment, {len(self._rows)} stored>"

    def __iter__(self) -> Iterator[ClientToken]:
        """Every token in force, those of the environment first."""
        yield from self._env.values()
        yield from self._rows.values()

    def stored(self) -> Iterator[tuple[bytes, ClientToken]]:
        """The stored tokens in force with their digests."""
        yield from self._rows.items()

    @property
    def open(self) -> bool:
        """Whether requests need no token."""
        return self._open

    @property
    def closed(self) -> bool:
        """Whether the tokens of the database are not known yet."""
        return self._closed

    @property
    def rows_exist(self) -> bool:
        """Whether the database ever held a token, revoked ones included."""
        return self._rows_exist

    def authenticate(self, authorization: bytes | None) -> ClientToken | None:
        """The client behind an Authorization header value (RFC 6750, scheme in any case); None means refuse."""
        if self._open:
            return self.anonymous
        if authorization is None or authorization[:7].lower() != b"bearer ":
            return None
        digest = hashlib.sha256(authorization[7:].strip(b" \t")).digest()
        # The lookup only narrows, by half of a digest nobody can steer; the whole is compared in constant time.
        found = self._by_key.get(digest[:_DIGEST_KEY_BYTES])
        if found is None or not hmac.compare_digest(found[0], digest):
            return None
        return found[1]

    def knows(self, digest: bytes) -> bool:
        """Whether a token is in force, stored or from the environment: to be asked before one is stored."""
        return digest in self._rows or digest in self._env

    def add(self, digest: bytes, token: ClientToken) -> None:
        """Put a stored token in force; the balancer is never open again. Raises ValueError if it is in force."""
        if self.knows(digest):
            raise ValueError("token already exists")
        self._rows[digest] = token
        self._rows_exist = True
        self._index()

    def get(self, token_id: int) -> ClientToken | None:
        """The stored token with this id, None if unknown or revoked."""
        return next((token for token in self._rows.values() if token.id == token_id), None)

    def revoke(self, token_id: int) -> ClientToken | None:
        """Take a stored token out of force at once; returns it, None if unknown. Running requests finish."""
        for digest, token in self._rows.items():
            if token.id == token_id:
                del self._rows[digest]
                self._index()
                return token
        return None

    def replace(self, rows: Iterable[tuple[bytes, ClientToken]], *, rows_exist: bool) -> None:
        """Take over what the database holds: digests with their tokens, without revoked ones.

        `rows_exist`: whether any row is there, revoked ones included. A token already in force keeps its object, with
        the name and position of the row: its counts are newer than the row's. Ends `closed`.
        """
        known = {token.id: token for token in self._rows.values()}
        self._rows = {digest: _merged(known.get(token.id), token) for digest, token in rows}
        self._rows_exist = self._rows_exist or rows_exist or bool(self._rows)
        self._closed = False
        self._index()

    def _index(self) -> None:
        # Stored tokens win over the same token in the environment: they have a name and lasting counts.
        self._by_key = {
            digest[:_DIGEST_KEY_BYTES]: (digest, token) for digest, token in (*self._env.items(), *self._rows.items())
        }
        self._open = not (self._env or self._rows_exist or self._closed)
        if self.on_change is not None:
            self.on_change()


def _merged(live: ClientToken | None, row: ClientToken) -> ClientToken:
    if live is None:
        return row
    live.name, live.preview, live.created_at = row.name, row.preview, row.created_at
    live.pos_x, live.pos_y = row.pos_x, row.pos_y
    return live


class AdminRefusal(enum.Enum):
    """Why a request may not administer; the value is a sentence for the answer."""

    NO_CREDENTIALS = "admin authorization failed: no X-Admin-Token, bearer token or session"
    WRONG = "admin authorization failed: wrong token"
    SESSION_ENDED = "admin authorization failed: the session has ended, log in again"
    CSRF_MISSING = "admin authorization failed: changes by session need the X-CSRF-Token header"


@dataclass(frozen=True, slots=True)
class Session:
    """A browser's login. `value` is the cookie's, `csrf_token` what changes must carry as X-CSRF-Token."""

    expires_at: int
    value: str = field(repr=False)
    csrf_token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Admin:
    """Somebody who may administer. `session` is there when the cookie proved it."""

    via: Literal["token", "session"]
    session: Session | None = None


class AdminAuth:
    """Decides who may administer, by token or by a signed session cookie.

    Sessions live in the cookie alone, under a key derived from the admin token: they survive a restart, and a new
    admin token ends them all.
    """

    __slots__ = ("_csrf_key", "_digest", "_session_key")

    def __init__(self, token: str) -> None:
        """Raises ValueError for a token that is empty or cannot travel in a header: there is no open admin."""
        if not is_token(token):
            raise ValueError("the admin token must be one or more visible ASCII characters")
        self._digest = token_digest(token)
        self._session_key = _mac(token.encode(), b"llm-balancer admin session")
        self._csrf_key = _mac(token.encode(), b"llm-balancer admin csrf")

    def authenticate(self, headers: Iterable[tuple[bytes, bytes]], *, method: str, now: float) -> Admin | AdminRefusal:
        """Judge a request by its headers (names in lower case, as in ASGI).

        One right credential is enough, since a proxy in front may add an Authorization of its own. A session needs
        its X-CSRF-Token too for other methods than GET, HEAD and OPTIONS.
        """
        tokens, cookies, csrf = _credentials(headers)
        if any(self._is_token(token) for token in tokens):
            return Admin("token")
        session = next((found for cookie in cookies if (found := self._session(cookie, now))), None)
        if session is not None:
            safe = method in _SAFE_METHODS or hmac.compare_digest(csrf, session.csrf_token.encode())
            return Admin("session", session) if safe else AdminRefusal.CSRF_MISSING
        if tokens:
            return AdminRefusal.WRONG
        return AdminRefusal.SESSION_ENDED if cookies else AdminRefusal.NO_CREDENTIALS

    def login(self, token: str, now: float) -> Session | None:
        """A session of twelve hours for the right token, None for a wrong one."""
        if not self._is_token(token.strip().encode(errors="surrogatepass")):
            return None
        expires_at = int(now) + SESSION_SECONDS
        return self._signed(f"{expires_at}.{secrets.token_urlsafe(16)}", expires_at)

    def set_cookie(self, session: Session, *, secure: bool) -> str:
        """The Set-Cookie value that starts `session`; `secure` when the browser came by https (RFC 6265)."""
        return _cookie(session.value, SESSION_SECONDS) + ("; Secure" if secure else "")

    def clear_cookie(self) -> str:
        """The Set-Cookie value that ends the session in this browser."""
        return _cookie("", 0)

    def _is_token(self, given: bytes) -> bool:
        # Digests have one length, so the comparison tells nothing about the length of the token either.
        return hmac.compare_digest(hashlib.sha256(given).digest(), self._digest)

    def _session(self, value: bytes, now: float) -> Session | None:
        content, _, signature = value.rpartition(b".")
        if not hmac.compare_digest(signature, _mac(self._session_key, content).hex().encode()):
            return None
        expires_at = int(content.partition(b".")[0])
        return self._signed(content.decode(), expires_at) if now < expires_at else None

    def _signed(self, content: str, expires_at: int) -> Session:
        signature = _mac(self._session_key, content.encode()).hex()
        return Session(expires_at, f"{content}.{signature}", _mac(self._csrf_key, content.encode()).hex())


def _mac(key: bytes, message: bytes) -> bytes:
    return hmac.digest(key, message, "sha256")


def _cookie(value: str, max_age_seconds: int) -> str:
    # Cookies ignore ports: Path keeps this one from other programs' pages on the same host, and from /v1.
    return f"{SESSION_COOKIE}={value}; Max-Age={max_age_seconds}; Path=/admin; HttpOnly; SameSite=Strict"


def _credentials(headers: Iterable[tuple[bytes, bytes]]) -> tuple[list[bytes], list[bytes], bytes]:
    """Tokens given, values of our cookie, and the CSRF token (empty when there is none).

    A field that is repeated is one with a comma in it (RFC 9110 section 5.3), which is no token: each request is one
    guess for each way to give one.
    """
    tokens: dict[bytes, bytes] = {}
    cookies: list[bytes] = []
    csrf = b""
    for name, value in headers:
        if name == b"x-admin-token" or (name == b"authorization" and value[:7].lower() == b"bearer "):
            token = (value[7:] if name == b"authorization" else value).strip(b" \t")
            tokens[name] = tokens[name] + b", " + token if name in tokens else token
        elif name == b"x-csrf-token":
            csrf = value
        elif name == b"cookie":
            cookies.extend(_session_cookies(value))
    return [token for token in tokens.values() if token], [cookie for cookie in cookies if cookie], csrf


def _session_cookies(header: bytes) -> Iterator[bytes]:
    for pair in header.split(b";"):
        name, _, value = pair.strip(b" \t").partition(b"=")
        if name == SESSION_COOKIE.encode():
            yield value.strip(b'"')


def ensure_admin_token(path: Path, setting: str = "LB_ADMIN_TOKEN") -> tuple[str, bool]:
    """The generated token kept in `path`, and whether it was made just now. `setting` would name one instead.

    The file appears whole and with mode 0600 or not at all, so that starts at the same moment agree on one token.
    Raises AdminTokenUnavailable.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if path.exists():
            return _read_admin_token(path, setting), False
        created = _create_admin_token(path)
        return _read_admin_token(path, setting), created
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise AdminTokenUnavailable(
            f"no admin token: {path} cannot be read or created ({reason}); set {setting}"
        ) from error


def _read_admin_token(path: Path, setting: str) -> str:
    try:
        token = path.read_text("ascii").strip()
    except UnicodeDecodeError:
        token = ""
    if not is_token(token):
        raise AdminTokenUnavailable(f"{path} holds no usable admin token: delete it or set {setting}")
    return token


def _create_admin_token(path: Path) -> bool:
    """Write aside, then link: linking fails where a file is, so the first writer wins."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # opened with O_EXCL, mode 0600
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(secrets.token_urlsafe(32) + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.link(name, path)
    except FileExistsError:
        return False
    else:
        return True
    finally:
        Path(name).unlink()
