"""The migration that makes the platform's roles goes up and down, and up again."""

from collections.abc import AsyncIterator
from dataclasses import replace
from uuid import uuid4

import asyncpg
import pytest
import sqlalchemy as sa

from core.db.migrate import downgrade, upgrade
from core.db.roles import ensure_roles
from core.db.session import Database
from core.settings import Settings
from core.settings.database import with_login


@pytest.fixture
async def scratch(postgres_server: Settings) -> AsyncIterator[Settings]:
    """Settings for an empty database on the same server."""
    name = f"scratch_{uuid4().hex[:12]}"
    admin = await asyncpg.connect(postgres_server.admin_database_url)
    await admin.execute(f"CREATE DATABASE {name}")
    url = with_login(
        postgres_server.admin_database_url,
        "postgres",
        postgres_server.secrets.database_superuser,
        name,
    )
    settings = replace(
        postgres_server, database=postgres_server.database.model_copy(update={"url": url})
    )
    await ensure_roles(settings)
    yield settings
    await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await admin.close()


async def _counts(settings: Settings) -> tuple[int, int, int]:
    owner = Database.connect(settings, "owner")
    try:
        async with owner.transaction(None) as session:
            row = (
                await session.execute(
                    sa.text(
                        "SELECT (SELECT count(*) FROM roles), (SELECT count(*) FROM permissions), "
                        "(SELECT count(*) FROM role_permissions)"
                    )
                )
            ).one()
            return row[0], row[1], row[2]
    finally:
        await owner.close()


@pytest.mark.slow
async def test_roles_come_and_go_with_their_migration(scratch: Settings) -> None:
    upgrade(scratch, "0004")
    made = await _counts(scratch)
    assert made[0] == 5
    downgrade(scratch, "0003")
    assert await _counts(scratch) == (0, 0, 0)
    upgrade(scratch, "0004")
    assert await _counts(scratch) == made
    owner = Database.connect(scratch, "owner")
    try:
        async with owner.transaction(None) as session:
            await session.execute(sa.text("UPDATE alembic_version SET version_num = '0003'"))
    finally:
        await owner.close()
    upgrade(scratch, "0004")  # over what is there already
    assert await _counts(scratch) == made
