"""The tables. Column types are those every SQL database has, so that another than SQLite can serve later.

A change here needs a new script in `migrations/versions`; a test compares the two.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
)

# Named, because a migration can only drop what has a name.
metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# One row. Endpoint ids come from `next_endpoint_id`: an id is never given twice, not even after a delete.
configuration = Table(
    "configuration",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("revision", Integer, nullable=False),
    Column("routing_mode", String(40), nullable=False),
    Column("next_endpoint_id", Integer, nullable=False),
    Column("incoming_x", Float, nullable=False),
    Column("incoming_y", Float, nullable=False),
)

# Provider keys, apart from what refers to them: endpoints, and the revisions that can bring a key back.
# `encrypted`: `api_key` is not the key itself, but what `KeyCipher` made of it.
endpoint_keys = Table(
    "endpoint_keys",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("api_key", Text, nullable=False),
    Column("encrypted", Boolean, nullable=False),
    sqlite_autoincrement=True,
)

endpoints = Table(
    "endpoints",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("name", String(120), nullable=False, unique=True),
    Column("base_url", String(500), nullable=False),
    Column("api_key_id", Integer, ForeignKey("endpoint_keys.id")),
    Column("timeout", Float, nullable=False),
    Column("verify_tls", Boolean, nullable=False),
    Column("enabled", Boolean, nullable=False),
    Column("connected", Boolean, nullable=False),
    Column("token_quota_percent", Float, nullable=False),
    Column("priority_order", Integer, nullable=False),
    Column("max_concurrent", Integer, nullable=False),
    Column("weight", Float, nullable=False),
    Column("models", JSON, nullable=False),
    Column("model_aliases", JSON, nullable=False),
    Column("include_usage", Boolean, nullable=False),
    Column("price_per_million_input", Float),
    Column("price_per_million_output", Float),
    Column("tags", JSON, nullable=False),
    Column("health_check", Boolean, nullable=False),
    Column("discovered", Boolean, nullable=False),
    Column("pos_x", Float, nullable=False),
    Column("pos_y", Float, nullable=False),
    Column("created_at", String(32), nullable=False),
    Column("updated_at", String(32), nullable=False),
)

revisions = Table(
    "revisions",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("created_at", String(32), nullable=False),
    Column("actor", String(200), nullable=False),
    Column("summary", Text, nullable=False),
)

# One row for each endpoint a revision touched; `endpoint_id` is null where it was the routing mode.
# The key columns repeat the ids that stand in `before` and `after`, for the foreign keys and for finding unused keys.
revision_changes = Table(
    "revision_changes",
    metadata,
    Column("revision", Integer, ForeignKey("revisions.number", ondelete="CASCADE"), primary_key=True),
    Column("place", Integer, primary_key=True, autoincrement=False),
    Column("endpoint_id", Integer, index=True),
    Column("name", String(120), nullable=False),
    Column("before", JSON(none_as_null=True)),
    Column("after", JSON(none_as_null=True)),
    Column("before_key_id", Integer, ForeignKey("endpoint_keys.id")),
    Column("after_key_id", Integer, ForeignKey("endpoint_keys.id")),
)

client_tokens = Table(
    "client_tokens",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String(120), nullable=False),
    Column("token_hash", String(64), nullable=False, unique=True),
    Column("token_preview", String(40), nullable=False),
    Column("created_at", String(32), nullable=False),
    Column("revoked_at", String(32)),
    Column("last_used_at", String(32)),
    Column("pos_x", Float, nullable=False),
    Column("pos_y", Float, nullable=False),
    Column("total_requests", BigInteger, nullable=False),
    Column("prompt_tokens_total", BigInteger, nullable=False),
    Column("completion_tokens_total", BigInteger, nullable=False),
    sqlite_autoincrement=True,
)

# A name can be given again once its token is revoked.
Index(
    "uq_client_tokens_name_in_use",
    client_tokens.c.name,
    unique=True,
    sqlite_where=client_tokens.c.revoked_at.is_(None),
    postgresql_where=client_tokens.c.revoked_at.is_(None),
)

# No foreign key: totals outlive their endpoint while a revision can bring it back.
endpoint_totals = Table(
    "endpoint_totals",
    metadata,
    Column("endpoint_id", Integer, primary_key=True, autoincrement=False),
    Column("total_requests", BigInteger, nullable=False),
    Column("total_success", BigInteger, nullable=False),
    Column("total_failures", BigInteger, nullable=False),
    Column("prompt_tokens_total", BigInteger, nullable=False),
    Column("completion_tokens_total", BigInteger, nullable=False),
    Column("latency_count", BigInteger, nullable=False),
    Column("latency_sum_ms", Float, nullable=False),
    Column("updated_at", String(32), nullable=False),
)

# `minute` is Unix time of the minute's first second.
usage_minutes = Table(
    "usage_minutes",
    metadata,
    Column("minute", BigInteger, primary_key=True, autoincrement=False),
    Column("endpoint_id", Integer, primary_key=True, autoincrement=False),
    Column("requests", BigInteger, nullable=False),
    Column("failures", BigInteger, nullable=False),
    Column("prompt_tokens", BigInteger, nullable=False),
    Column("completion_tokens", BigInteger, nullable=False),
    Column("latency_count", BigInteger, nullable=False),
    Column("latency_sum_ms", Float, nullable=False),
)
