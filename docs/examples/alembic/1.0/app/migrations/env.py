"""Runs the migrations on the address that it is given, and on no other."""

from sqlalchemy import create_engine, pool

from alembic import context

engine = create_engine(context.config.get_main_option("sqlalchemy.url"), poolclass=pool.NullPool)
with engine.connect() as connection:
    context.configure(connection=connection)
    with context.begin_transaction():
        context.run_migrations()
