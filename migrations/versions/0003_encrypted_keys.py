"""Provider keys: whether they stand there encrypted.

A program that does not know the column would send the encrypted text to providers; this version keeps it out.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision: str = "0003"
down_revision: str | None = "0002"
branch_labels: str | None = None
depends_on: str | None = None

# SQLite alters a table by making it anew, which would lose that.
_AUTOINCREMENT = {"sqlite_autoincrement": True}


def upgrade() -> None:
    # The default is for the rows there are; new ones always bring the value.
    with op.batch_alter_table("endpoint_keys", table_kwargs=_AUTOINCREMENT) as keys:
        keys.add_column(sa.Column("encrypted", sa.Boolean(), nullable=False, server_default=sa.false()))
    with op.batch_alter_table("endpoint_keys", table_kwargs=_AUTOINCREMENT) as keys:
        keys.alter_column("encrypted", server_default=None)


def downgrade() -> None:
    if op.get_bind().execute(sa.text("SELECT count(*) FROM endpoint_keys WHERE encrypted")).scalar():
        raise ValueError("provider keys are encrypted: export the configuration with keys, and import it there")
    with op.batch_alter_table("endpoint_keys", table_kwargs=_AUTOINCREMENT) as keys:
        keys.drop_column("encrypted")
