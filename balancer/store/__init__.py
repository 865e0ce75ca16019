"""What outlives the process: configuration and its revisions, client tokens, usage; one SQLite file.

Nothing on the path of a request waits for anything here.
"""

from __future__ import annotations

from balancer.store.cipher import KeyCipher
from balancer.store.configuration import ConfigurationStore
from balancer.store.database import Database
from balancer.store.engines import DEFAULT_URL
from balancer.store.errors import (
    ChangeRefused,
    DatabaseTooNew,
    NameTaken,
    RevertRefused,
    RevisionConflict,
    StoreError,
    TokenTaken,
    UnknownEndpoint,
    UnknownRevision,
    UnknownToken,
    WrongSecretKey,
)
from balancer.store.keys import KeySurvey, encrypt_stored_keys, survey_keys
from balancer.store.records import (
    INCOMING_POSITION,
    TOKEN_POSITION,
    Change,
    Configuration,
    CreateEndpoint,
    DeleteEndpoint,
    EndpointRecord,
    FieldChange,
    LostKeys,
    Position,
    RecordedChange,
    Revision,
    SetRoutingMode,
    TokenRecord,
    UpdateEndpoint,
    iso_time,
)
from balancer.store.retention import prune
from balancer.store.tokens import TokenStore
from balancer.store.usage import (
    MINUTE_SECONDS,
    EndpointTotals,
    MinuteUsage,
    TokenTotals,
    UsageBatch,
    UsageStore,
)
from balancer.store.writer import UsageWriter

__all__ = [
    "DEFAULT_URL",
    "INCOMING_POSITION",
    "MINUTE_SECONDS",
    "TOKEN_POSITION",
    "Change",
    "ChangeRefused",
    "Configuration",
    "ConfigurationStore",
    "CreateEndpoint",
    "Database",
    "DatabaseTooNew",
    "DeleteEndpoint",
    "EndpointRecord",
    "EndpointTotals",
    "FieldChange",
    "KeyCipher",
    "KeySurvey",
    "LostKeys",
    "MinuteUsage",
    "NameTaken",
    "Position",
    "RecordedChange",
    "RevertRefused",
    "Revision",
    "RevisionConflict",
    "SetRoutingMode",
    "StoreError",
    "TokenRecord",
    "TokenStore",
    "TokenTaken",
    "TokenTotals",
    "UnknownEndpoint",
    "UnknownRevision",
    "UnknownToken",
    "UpdateEndpoint",
    "UsageBatch",
    "UsageStore",
    "UsageWriter",
    "WrongSecretKey",
    "encrypt_stored_keys",
    "iso_time",
    "prune",
    "survey_keys",
]
