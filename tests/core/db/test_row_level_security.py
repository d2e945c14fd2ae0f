"""Tenants cannot see or write each other's rows, and no table can forget that."""

from uuid import UUID

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError
from sqlmodel import select

from core.db.session import Database
from core.db.tables import Device
from tests.support.tenants import make_device, make_profile, make_tenant


async def test_every_table_with_a_tenant_has_a_forced_policy(owner: Database) -> None:
    async with owner.transaction(None) as session:
        tables = await session.execute(
            sa.text(
                """
                SELECT c.relname, c.relrowsecurity AND c.relforcerowsecurity
                       AND EXISTS (SELECT 1 FROM pg_policy p WHERE p.polrelid = c.oid)
                       AS protected
                FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
                WHERE c.relkind IN ('r', 'p') AND c.relnamespace = 'public'::regnamespace
                  AND a.attname = 'tenant_id' AND NOT a.attisdropped
                """
            )
        )
        protected = {row.relname: row.protected for row in tables}
    assert len(protected) > 20
    assert [name for name, ok in protected.items() if not ok] == []


async def test_the_api_role_cannot_bypass_row_level_security(owner: Database) -> None:
    async with owner.transaction(None) as session:
        flags = await session.execute(
            sa.text(
                "SELECT rolname, rolbypassrls OR rolsuper AS bypasses FROM pg_roles "
                "WHERE rolname IN ('iotlinker_api', 'iotlinker_worker', 'iotlinker_owner')"
            )
        )
        assert {row.rolname: row.bypasses for row in flags} == {
            "iotlinker_api": False,
            "iotlinker_worker": False,
            "iotlinker_owner": False,
        }


async def test_a_tenant_sees_its_own_devices_only(
    owner: Database, api_database: Database, tenant_id: UUID
) -> None:
    other = await make_tenant(owner)
    mine = await make_device(owner, tenant_id, await make_profile(owner, tenant_id))
    await make_device(owner, other, await make_profile(owner, other))
    async with api_database.transaction(tenant_id) as session:
        assert list(await session.scalars(select(Device.id))) == [mine.id]
    async with api_database.transaction(None) as session:
        assert list(await session.scalars(select(Device.id))) == []


async def test_a_tenant_cannot_write_rows_of_another(
    owner: Database, api_database: Database, tenant_id: UUID
) -> None:
    other = await make_tenant(owner)
    profile = await make_profile(owner, other)
    with pytest.raises(DBAPIError, match="row-level security"):
        async with api_database.transaction(tenant_id) as session:
            session.add(Device(tenant_id=other, profile_id=profile, name="intruder"))


async def test_the_tenant_does_not_outlive_its_transaction(
    api_database: Database, tenant_id: UUID
) -> None:
    current = sa.text("SELECT current_tenant()")
    async with api_database.transaction(tenant_id) as session:
        assert await session.scalar(current) == tenant_id
    async with api_database.transaction(None) as session:
        assert await session.scalar(current) is None
