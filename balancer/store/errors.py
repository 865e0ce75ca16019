"""What the store raises.

    BalancerError
    |-- StoreError             the database did not do what was asked; the message says why, in words
    |   |-- DatabaseTooNew     written by a later version of this program; left as it is
    |   `-- WrongSecretKey     provider keys are encrypted, and no secret given opens them
    `-- ChangeRefused          the database is fine, this change does not fit what it holds
        |-- NameTaken
        |-- TokenTaken
        |-- UnknownEndpoint
        |-- UnknownToken
        |-- UnknownRevision
        |-- RevisionConflict   somebody else changed the configuration in between
        `-- RevertRefused      what a revision changed has been changed again since

No message holds SQL, its parameters, a provider key or a token.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from balancer.core.errors import BalancerError
from balancer.store.records import Configuration, FieldChange


class StoreError(BalancerError):
    """The database cannot be opened, read or written; the message names it and says what can be done."""


class DatabaseTooNew(StoreError):
    """The database at `path` has the version `found`, which this program does not know. It was not touched."""

    def __init__(self, path: Path, found: str, newest_known: str) -> None:
        super().__init__(
            f"the database {path} has version {found!r}, but this program knows versions up to {newest_known!r} only:"
            " start the newer program that wrote it, or set LB_DATABASE_URL to another file."
            " The database was not changed."
        )
        self.path = path
        self.found = found


class WrongSecretKey(StoreError):
    """A provider key in the database was encrypted with a secret that was not given; `given`: whether any was."""

    def __init__(self, *, given: bool) -> None:
        if given:
            words = (
                "LB_SECRET_KEY does not fit: a provider key in the database was encrypted with another secret;"
                " give that one too, behind the new one and a comma; `llm-balancer rotate-keys` names the endpoints"
            )
        else:
            words = "the provider keys in the database are encrypted: set LB_SECRET_KEY to the secret of that time"
        super().__init__(words)


class ChangeRefused(BalancerError):
    """The change does not fit what the database holds; nothing of it was stored."""


class NameTaken(ChangeRefused):
    """Another endpoint, or another token in use, already has this name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"the name {name!r} is taken")
        self.name = name


class TokenTaken(ChangeRefused):
    """The same client token exists already, possibly revoked."""

    def __init__(self) -> None:
        super().__init__("this client token already exists, or existed and was revoked")


class UnknownEndpoint(ChangeRefused):
    """There is no endpoint with this id."""

    def __init__(self, endpoint_id: int) -> None:
        super().__init__(f"there is no endpoint {endpoint_id}")
        self.endpoint_id = endpoint_id


class UnknownToken(ChangeRefused):
    """There is no client token with this id."""

    def __init__(self, token_id: int) -> None:
        super().__init__(f"there is no client token {token_id}")
        self.token_id = token_id


class UnknownRevision(ChangeRefused):
    """There is no such revision, or it is no longer kept."""

    def __init__(self, number: int) -> None:
        super().__init__(f"there is no revision {number}, or it is no longer kept")
        self.number = number


class RevisionConflict(ChangeRefused):
    """The configuration is not at the revision the caller has seen.

    `changed` holds what differs now, by "endpoints.<id>.<field>" or "routing_mode"; an endpoint that was created or
    deleted is one entry "endpoints.<id>" with its name. Empty when the caller's revision is no longer kept.
    """

    def __init__(self, current: Configuration, changed: Mapping[str, FieldChange]) -> None:
        super().__init__(f"the configuration has moved on to revision {current.revision}")
        self.current = current
        self.changed = changed


class RevertRefused(ChangeRefused):
    """`fields`, named as in `RevisionConflict.changed`, are no longer as that revision left them."""

    def __init__(self, number: int, fields: Sequence[str]) -> None:
        super().__init__(f"revision {number} cannot be undone, changed again since: {', '.join(fields)}")
        self.number = number
        self.fields = tuple(fields)
