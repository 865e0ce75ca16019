"""First tables: configuration with its revisions, client tokens, usage."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision: str = "0001"
down_revision: str | None = None
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    op.create_table(
        "client_tokens",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=120), nullable=False),
        sa.Column("token_hash", sa.String(length=64), nullable=False),
        sa.Column("token_preview", sa.String(length=40), nullable=False),
        sa.Column("created_at", sa.String(length=32), nullable=False),
        sa.Column("revoked_at", sa.String(length=32), nullable=True),
        sa.Column("last_used_at", sa.String(length=32), nullable=True),
        sa.Column("pos_x", sa.Float(), nullable=False),
        sa.Column("pos_y", sa.Float(), nullable=False),
        sa.Column("total_requests", sa.BigInteger(), nullable=False),
        sa.Column("prompt_tokens_total", sa.BigInteger(), nullable=False),
        sa.Column("completion_tokens_total", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_client_tokens")),
        sa.UniqueConstraint("token_hash", name=op.f("uq_client_tokens_token_hash")),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "uq_client_tokens_name_in_use",
        "client_tokens",
        ["name"],
        unique=True,
        sqlite_where=sa.text("revoked_at IS NULL"),
        postgresql_where=sa.text("revoked_at IS NULL"),
    )

    op.create_table(
        "configuration",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("routing_mode", sa.String(length=40), nullable=False),
        sa.Column("next_endpoint_id", sa.Integer(), nullable=False),
        sa.Column("incoming_x", sa.Float(), nullable=False),
        sa.Column("incoming_y", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_configuration")),
    )
    op.create_table(
        "endpoint_keys",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("api_key", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_endpoint_keys")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "endpoint_totals",
        sa.Column("endpoint_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("total_requests", sa.BigInteger(), nullable=False),
        sa.Column("total_success", sa.BigInteger(), nullable=False),
        sa.Column("total_failures", sa.BigInteger(), nullable=False),
        sa.Column("prompt_tokens_total", sa.BigInteger(), nullable=False),
        sa.Column("completion_tokens_total", sa.BigInteger(), nullable=False),
        sa.Column("latency_count", sa.BigInteger(), nullable=False),
        sa.Column("latency_sum_ms", sa.Float(), nullable=False),
        sa.Column("updated_at", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("endpoint_id", name=op.f("pk_endpoint_totals")),
    )
    op.create_table(
        "revisions",
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("created_at", sa.String(length=32), nullable=False),
        sa.Column("actor", sa.String(length=200), nullable=False),
        sa.Column("summary", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_revisions")),
    )
    op.create_table(
        "usage_minutes",
        sa.Column("minute", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("endpoint_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("requests", sa.BigInteger(), nullable=False),
        sa.Column("failures", sa.BigInteger(), nullable=False),
        sa.Column("prompt_tokens", sa.BigInteger(), nullable=False),
        sa.Column("completion_tokens", sa.BigInteger(), nullable=False),
        sa.Column("latency_count", sa.BigInteger(), nullable=False),
        sa.Column("latency_sum_ms", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("minute", "endpoint_id", name=op.f("pk_usage_minutes")),
    )
    op.create_table(
        "endpoints",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("name", sa.String(length=120), nullable=False),
        sa.Column("base_url", sa.String(length=500), nullable=False),
        sa.Column("api_key_id", sa.Integer(), nullable=True),
        sa.Column("timeout", sa.Float(), nullable=False),
        sa.Column("verify_tls", sa.Boolean(), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("connected", sa.Boolean(), nullable=False),
        sa.Column("token_quota_percent", sa.Float(), nullable=False),
        sa.Column("priority_order", sa.Integer(), nullable=False),
        sa.Column("max_concurrent", sa.Integer(), nullable=False),
        sa.Column("weight", sa.Float(), nullable=False),
        sa.Column("models", sa.JSON(), nullable=False),
        sa.Column("model_aliases", sa.JSON(), nullable=False),
        sa.Column("include_usage", sa.Boolean(), nullable=False),
        sa.Column("price_per_million_input", sa.Float(), nullable=True),
        sa.Column("price_per_million_output", sa.Float(), nullable=True),
        sa.Column("tags", sa.JSON(), nullable=False),
        sa.Column("pos_x", sa.Float(), nullable=False),
        sa.Column("pos_y", sa.Float(), nullable=False),
        sa.Column("created_at", sa.String(length=32), nullable=False),
        sa.Column("updated_at", sa.String(length=32), nullable=False),
        sa.ForeignKeyConstraint(["api_key_id"], ["endpoint_keys.id"], name=op.f("fk_endpoints_api_key_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_endpoints")),
        sa.UniqueConstraint("name", name=op.f("uq_endpoints_name")),
    )
    op.create_table(
        "revision_changes",
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("place", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("endpoint_id", sa.Integer(), nullable=True),
        sa.Column("name", sa.String(length=120), nullable=False),
        sa.Column("before", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("after", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("before_key_id", sa.Integer(), nullable=True),
        sa.Column("after_key_id", sa.Integer(), nullable=True),
        sa.ForeignKeyConstraint(["after_key_id"], ["endpoint_keys.id"], name=op.f("fk_revision_changes_after_key_id")),
        sa.ForeignKeyConstraint(
            ["before_key_id"], ["endpoint_keys.id"], name=op.f("fk_revision_changes_before_key_id")
        ),
        sa.ForeignKeyConstraint(
            ["revision"], ["revisions.number"], name=op.f("fk_revision_changes_revision"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("revision", "place", name=op.f("pk_revision_changes")),
    )
    op.create_index(op.f("ix_revision_changes_endpoint_id"), "revision_changes", ["endpoint_id"], unique=False)


def downgrade() -> None:
    for table in (
        "revision_changes",
        "endpoints",
        "usage_minutes",
        "revisions",
        "endpoint_totals",
        "endpoint_keys",
        "configuration",
        "client_tokens",
    ):
        op.drop_table(table)
