"""Permits that people ask for, and what a worker has to do."""

import sqlalchemy as sa

from alembic import op

revision, down_revision = "0001", None


def upgrade() -> None:
    op.create_table(
        "permits",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("holder", sa.Text, nullable=False),
        sa.Column("issued", sa.Integer, nullable=False, server_default="0"),
    )
    op.create_table("days", sa.Column("day", sa.Date, primary_key=True))
