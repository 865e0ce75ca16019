from __future__ import annotations

import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.auth import (
    SESSION_SECONDS,
    Admin,
    AdminAuth,
    AdminRefusal,
    AdminTokenUnavailable,
    ClientToken,
    ClientTokens,
    Session,
    ensure_admin_token,
    is_token,
    new_token,
    preview,
    token_digest,
)

ADMIN = "an-admin-token"
NOW = 1_700_000_000.0


def bearer(token: str) -> bytes:
    return f"Bearer {token}".encode()


def stored(token_id: int, token: str, name: str = "laptop") -> tuple[bytes, ClientToken]:
    return token_digest(token), ClientToken(token_id, name, preview(token))


def opened(*env_tokens: str) -> ClientTokens:
    """Client tokens after an empty database was read."""
    tokens = ClientTokens(env_tokens)
    tokens.replace([], rows_exist=False)
    return tokens


class TestClientTokens:
    def test_open_while_no_token_exists(self) -> None:
        tokens = opened()
        assert tokens.open
        assert tokens.authenticate(None) is tokens.anonymous
        assert tokens.authenticate(bearer("whatever-the-sdk-sends")) is tokens.anonymous
        assert tokens.anonymous.name == "anonymous"

    def test_closed_until_the_database_was_read(self) -> None:
        tokens = ClientTokens(["from-env"])
        assert tokens.closed and not tokens.open
        assert tokens.authenticate(bearer("from-env")) is not None
        assert ClientTokens().authenticate(None) is None
        tokens.replace([], rows_exist=False)
        assert not tokens.closed

    def test_environment_tokens_guard(self) -> None:
        tokens = opened("first-token", "second-token", "first-token")
        assert not tokens.open
        assert tokens.authenticate(None) is None
        assert tokens.authenticate(bearer("second-tokem")) is None
        found = tokens.authenticate(bearer("second-token"))
        assert found is not None
        assert (found.id, found.name, found.preview) == (None, "env-2", "seco...oken")
        assert [token.name for token in tokens] == ["env-1", "env-2"]

    def test_stored_tokens_guard_as_soon_as_they_are_added(self) -> None:
        tokens = opened()
        digest, token = stored(7, "ct-secret")
        tokens.add(digest, token)
        assert tokens.authenticate(bearer("ct-secret")) is token is tokens.get(7)
        assert tokens.authenticate(None) is None
        assert list(tokens) == [token]

    def test_revoking_the_last_token_leaves_the_door_shut(self) -> None:
        tokens = opened()
        tokens.add(*stored(7, "ct-secret"))
        revoked = tokens.revoke(7)
        assert revoked is not None and revoked.id == 7
        assert tokens.revoke(7) is None and tokens.get(7) is None
        assert tokens.authenticate(bearer("ct-secret")) is None
        assert tokens.authenticate(None) is None
        assert tokens.rows_exist and not tokens.open

    def test_revoked_rows_alone_keep_it_shut_after_a_restart(self) -> None:
        tokens = ClientTokens()
        tokens.replace([], rows_exist=True)
        assert tokens.authenticate(None) is None
        tokens.replace([], rows_exist=False)
        assert not tokens.open

    def test_replace_keeps_live_counts_and_takes_over_the_rest(self) -> None:
        tokens = opened()
        tokens.add(*stored(1, "one"))
        tokens.add(*stored(2, "two"))
        live = tokens.get(1)
        assert live is not None
        live.requests = 5
        tokens.replace([stored(1, "one", "renamed"), stored(3, "three")], rows_exist=True)
        assert tokens.authenticate(bearer("one")) is live
        assert (live.name, live.requests) == ("renamed", 5)
        assert tokens.authenticate(bearer("two")) is None
        assert tokens.authenticate(bearer("three")) is tokens.get(3) is not None

    def test_replace_puts_a_changed_token_in_force(self) -> None:
        tokens = opened()
        tokens.add(*stored(1, "old"))
        tokens.replace([stored(1, "new")], rows_exist=True)
        assert tokens.authenticate(bearer("old")) is None
        assert tokens.authenticate(bearer("new")) is tokens.get(1) is not None

    def test_a_token_is_added_once(self) -> None:
        tokens = opened("from-env")
        tokens.add(*stored(1, "ct-secret"))
        assert not tokens.knows(token_digest("another"))
        for text in ("ct-secret", "from-env"):
            assert tokens.knows(token_digest(text))
            with pytest.raises(ValueError, match="already exists"):
                tokens.add(*stored(2, text))

    def test_a_stored_token_wins_over_the_environment_and_gives_way_when_revoked(self) -> None:
        tokens = ClientTokens(["both"])
        tokens.replace([stored(1, "both")], rows_exist=True)
        assert tokens.authenticate(bearer("both")) is tokens.get(1) is not None
        tokens.revoke(1)
        found = tokens.authenticate(bearer("both"))
        assert found is not None and found.name == "env-1"

    @pytest.mark.parametrize("header", [b"bearer tok-en", b"BEARER tok-en", b"Bearer   tok-en", b"Bearer tok-en \t"])
    def test_schemes_and_spaces_accepted(self, header: bytes) -> None:
        assert opened("tok-en").authenticate(header) is not None

    @pytest.mark.parametrize(
        "header",
        [b"", b"tok-en", b"Bearer", b"Bearer ", b"Basic tok-en", b"Bearertok-en", b"Bearer tok-en,x", b"Bearer TOK-EN"],
    )
    def test_other_headers_are_refused(self, header: bytes) -> None:
        assert opened("tok-en").authenticate(header) is None

    @given(st.binary(max_size=60))
    def test_no_bytes_get_in_by_accident(self, header: bytes) -> None:
        tokens = opened("a-long-enough-token")
        assert tokens.authenticate(header) is None
        assert tokens.authenticate(b"Bearer " + header) is None

    def test_repr_tells_the_state_and_no_secret(self) -> None:
        assert repr(opened()) == "<ClientTokens open: 0 from the environment, 0 stored>"
        assert repr(ClientTokens()) == "<ClientTokens closed: 0 from the environment, 0 stored>"
        assert repr(opened("from-env")) == "<ClientTokens guarded: 1 from the environment, 0 stored>"
        assert "from-env" not in repr(list(opened("from-env")))


class TestTokenTexts:
    @pytest.mark.parametrize(
        ("token", "shown"),
        [("", ""), ("a", "a***"), ("12345678", "12***"), ("123456789", "1234...6789"), ("ct-abcdefgh", "ct-a...efgh")],
    )
    def test_preview(self, token: str, shown: str) -> None:
        assert preview(token) == shown

    def test_new_tokens_differ_and_travel(self) -> None:
        made = {new_token() for _ in range(100)}
        assert len(made) == 100
        assert all(token.startswith("ct-") and len(token) == 46 and is_token(token) for token in made)

    @pytest.mark.parametrize("text", ["", "a b", "a\n", "a\r\nX: y", "\x7f", "schlüssel", "\u200b"])
    def test_what_cannot_travel_is_no_token(self, text: str) -> None:
        assert not is_token(text)


@pytest.fixture
def admin() -> AdminAuth:
    return AdminAuth(ADMIN)


@pytest.fixture
def session(admin: AdminAuth) -> Session:
    session = admin.login(ADMIN, NOW)
    assert session is not None
    return session


def cookie(session: Session) -> tuple[bytes, bytes]:
    return b"cookie", f"lb_session={session.value}".encode()


class TestAdminToken:
    @pytest.mark.parametrize("token", ["", "with space", "newline\n", "ünicode"])
    def test_there_is_no_open_admin(self, token: str) -> None:
        with pytest.raises(ValueError, match="admin token"):
            AdminAuth(token)

    @pytest.mark.parametrize(
        "header",
        [
            (b"x-admin-token", ADMIN.encode()),
            (b"authorization", bearer(ADMIN)),
            (b"authorization", b"bearer  " + ADMIN.encode()),
        ],
    )
    def test_header_and_bearer(self, admin: AdminAuth, header: tuple[bytes, bytes]) -> None:
        assert admin.authenticate([header], method="DELETE", now=NOW) == Admin("token")

    @pytest.mark.parametrize("header", [(b"x-admin-token", b"an-admin-tokem"), (b"authorization", b"Bearer \xff")])
    def test_wrong_tokens(self, admin: AdminAuth, header: tuple[bytes, bytes]) -> None:
        assert admin.authenticate([header], method="GET", now=NOW) is AdminRefusal.WRONG

    @pytest.mark.parametrize(
        "headers",
        [
            [],
            [(b"x-admin-token", b"")],
            [(b"authorization", b"Basic " + ADMIN.encode())],
            [(b"authorization", b"Bearer ")],
            [(b"cookie", b"other=" + ADMIN.encode())],
            [(b"cookie", b"lb_session=")],
            [(b"x-csrf-token", ADMIN.encode())],
        ],
    )
    def test_no_credentials(self, admin: AdminAuth, headers: list[tuple[bytes, bytes]]) -> None:
        assert admin.authenticate(headers, method="GET", now=NOW) is AdminRefusal.NO_CREDENTIALS

    @pytest.mark.parametrize("name", [b"x-admin-token", b"authorization"])
    def test_one_request_is_one_guess(self, admin: AdminAuth, name: bytes) -> None:
        """Or a hundred fields in a request would be a hundred guesses for the price of one."""
        scheme = b"Bearer " if name == b"authorization" else b""
        headers = [(name, scheme + b"wrong"), (name, scheme + ADMIN.encode())]
        for each in (headers, headers[::-1]):
            assert admin.authenticate(each, method="GET", now=NOW) is AdminRefusal.WRONG

    def test_a_foreign_bearer_does_not_lock_out_a_right_credential(self, admin: AdminAuth, session: Session) -> None:
        foreign = (b"authorization", b"Bearer of-the-proxy-in-front")
        for right in ((b"x-admin-token", ADMIN.encode()), cookie(session)):
            assert isinstance(admin.authenticate([foreign, right], method="GET", now=NOW), Admin)


class TestSession:
    def test_login_needs_the_token(self, admin: AdminAuth) -> None:
        assert admin.login("an-admin-tokem", NOW) is None
        assert admin.login("", NOW) is None
        assert admin.login("\udcff", NOW) is None
        assert admin.login(f" {ADMIN}\n", NOW) is not None

    def test_reading_needs_the_cookie_alone(self, admin: AdminAuth, session: Session) -> None:
        headers = [(b"cookie", b'a=b; lb_session=stale; lb_session="' + session.value.encode() + b'"; c')]
        assert admin.authenticate(headers, method="GET", now=NOW) == Admin("session", session)

    @pytest.mark.parametrize("method", ["POST", "PATCH", "PUT", "DELETE", "BREW"])
    def test_changing_needs_the_csrf_header(self, admin: AdminAuth, session: Session, method: str) -> None:
        other = admin.login(ADMIN, NOW)
        assert other is not None
        for wrong in ([], [(b"x-csrf-token", b"")], [(b"x-csrf-token", other.csrf_token.encode())]):
            refused = admin.authenticate([cookie(session), *wrong], method=method, now=NOW)
            assert refused is AdminRefusal.CSRF_MISSING
        right = (b"x-csrf-token", session.csrf_token.encode())
        assert admin.authenticate([cookie(session), right], method=method, now=NOW) == Admin("session", session)

    def test_ends_twelve_hours_after_login_however_busy(self, admin: AdminAuth, session: Session) -> None:
        for hours in range(12):
            found = admin.authenticate([cookie(session)], method="GET", now=NOW + hours * 3600)
            assert found == Admin("session", session)
        ended = admin.authenticate([cookie(session)], method="GET", now=NOW + SESSION_SECONDS)
        assert ended is AdminRefusal.SESSION_ENDED

    def test_survives_a_restart_but_not_a_new_admin_token(self, session: Session) -> None:
        headers = [cookie(session)]
        assert AdminAuth(ADMIN).authenticate(headers, method="GET", now=NOW) == Admin("session", session)
        assert AdminAuth("another").authenticate(headers, method="GET", now=NOW) is AdminRefusal.SESSION_ENDED

    def test_no_byte_of_the_cookie_can_be_changed(self, admin: AdminAuth, session: Session) -> None:
        value = session.value.encode()
        for position in range(len(value)):
            forged = value[:position] + bytes([value[position] ^ 1]) + value[position + 1 :]
            headers = [(b"cookie", b"lb_session=" + forged)]
            assert not isinstance(admin.authenticate(headers, method="GET", now=NOW), Admin)

    @given(st.binary(max_size=100))
    def test_any_cookie_is_judged_without_error(self, value: bytes) -> None:
        answer = AdminAuth(ADMIN).authenticate([(b"cookie", b"lb_session=" + value)], method="GET", now=NOW)
        assert answer in (AdminRefusal.SESSION_ENDED, AdminRefusal.NO_CREDENTIALS)

    def test_the_csrf_token_does_not_give_the_cookie_away(self, session: Session) -> None:
        assert session.csrf_token not in session.value

    def test_cookies(self, admin: AdminAuth, session: Session) -> None:
        attributes = "Max-Age=43200; Path=/admin; HttpOnly; SameSite=Strict"
        plain = admin.set_cookie(session, secure=False)
        assert plain == f"lb_session={session.value}; {attributes}"
        assert admin.set_cookie(session, secure=True) == f"{plain}; Secure"
        assert admin.clear_cookie() == "lb_session=; Max-Age=0; Path=/admin; HttpOnly; SameSite=Strict"

    def test_repr_shows_no_secret(self, admin: AdminAuth, session: Session) -> None:
        text = repr((admin, session, Admin("session", session)))
        assert session.value not in text and session.csrf_token not in text and ADMIN not in text


class TestGeneratedAdminToken:
    def test_is_made_once_and_read_afterwards(self, tmp_path: Path) -> None:
        path = tmp_path / "data" / "admin-token"
        token, created = ensure_admin_token(path)
        assert created and len(token) == 43
        assert ensure_admin_token(path) == (token, False)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert list(path.parent.iterdir()) == [path]
        AdminAuth(token)

    def test_starts_at_the_same_moment_agree(self, tmp_path: Path) -> None:
        path, starts = tmp_path / "admin-token", 8
        barrier = threading.Barrier(starts)

        def start(_: int) -> tuple[str, bool]:
            barrier.wait(timeout=10)
            return ensure_admin_token(path)

        with ThreadPoolExecutor(starts) as pool:
            results = list(pool.map(start, range(starts)))
        assert len({token for token, _ in results}) == 1
        assert sum(created for _, created in results) == 1
        assert list(tmp_path.iterdir()) == [path]

    @pytest.mark.parametrize("content", [b"", b"\n", b"two words\n", b"\xff\xfe"])
    def test_a_spoilt_file_is_refused_not_replaced(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "admin-token"
        path.write_bytes(content)
        with pytest.raises(AdminTokenUnavailable, match="delete it or set LB_ADMIN_TOKEN"):
            ensure_admin_token(path)
        assert path.read_bytes() == content

    def test_a_place_that_cannot_be_written_asks_for_the_setting(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(AdminTokenUnavailable, match="set LB_ADMIN_TOKEN"):
            ensure_admin_token(tmp_path / "file" / "admin-token")
