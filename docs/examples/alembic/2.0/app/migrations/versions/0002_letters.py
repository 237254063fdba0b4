"""Add the letter that goes with a permit; write it again for older permits."""

import sqlalchemy as sa

from alembic import op

revision, down_revision = "0002", "0001"


def upgrade() -> None:
    op.add_column("permits", sa.Column("letter", sa.Text))
    op.execute("UPDATE permits SET letter = 'Dear ' || holder WHERE issued > 0")
