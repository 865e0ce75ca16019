"""Endpoints: whether they are probed, and whether the balancer found them itself."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision: str = "0002"
down_revision: str | None = "0001"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    # The defaults are for the rows there are; new ones always bring both values.
    with op.batch_alter_table("endpoints") as endpoints:
        endpoints.add_column(sa.Column("health_check", sa.Boolean(), nullable=False, server_default=sa.true()))
        endpoints.add_column(sa.Column("discovered", sa.Boolean(), nullable=False, server_default=sa.false()))
    with op.batch_alter_table("endpoints") as endpoints:
        endpoints.alter_column("health_check", server_default=None)
        endpoints.alter_column("discovered", server_default=None)


def downgrade() -> None:
    with op.batch_alter_table("endpoints") as endpoints:
        endpoints.drop_column("discovered")
        endpoints.drop_column("health_check")
