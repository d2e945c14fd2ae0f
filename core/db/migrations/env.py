"""Alembic's entry: one connection as the owner of the tables."""

import re

import sqlalchemy as sa
from alembic import context
from sqlmodel import SQLModel

import core.db.tables  # noqa: F401  (fills SQLModel.metadata for autogenerate)

config = context.config
_PARTITION = re.compile(r"_p(\d{8}|default)$")


def _ours(_object: object, name: str | None, kind: str, _reflected: bool, _compare: object) -> bool:
    """Leave partitions out of comparisons: they come and go with the days."""
    return not (kind == "table" and name is not None and _PARTITION.search(name))


def run() -> None:
    """Migrate in one transaction under a lock, so that two processes cannot both do it."""
    url = config.attributes["database_url"].replace("postgresql://", "postgresql+psycopg://", 1)
    engine = sa.create_engine(url, poolclass=sa.pool.NullPool)
    with engine.connect() as connection:
        context.configure(
            connection=connection,
            target_metadata=SQLModel.metadata,
            include_object=_ours,
        )
        with context.begin_transaction():
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(7104201)"))
            context.run_migrations()
    engine.dispose()


run()
