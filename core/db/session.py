"""One engine per process and role; one transaction per unit of work, bound to a tenant."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Self
from uuid import UUID

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine

from core.settings import Settings
from core.settings.database import Role

_json = msgspec.json.Encoder()


def _dumps(value: object) -> str:
    return _json.encode(value).decode()


class Database:
    """The database as one of the platform's roles sees it."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.engine = engine

    @classmethod
    def connect(
        cls, settings: Settings, role: Role, *, statement_timeout: float | None = None
    ) -> Self:
        """Prepare a pool; nothing is opened before the first use.

        Args:
            settings: Where the database is.
            role: As whom.
            statement_timeout: Seconds, when it is not that of the settings.
        """
        url = settings.database_url(role).replace("postgresql://", "postgresql+asyncpg://", 1)
        timeout = statement_timeout or settings.database.statement_timeout
        engine = create_async_engine(
            url,
            pool_size=settings.database.pool_size,
            max_overflow=5,
            pool_timeout=settings.database.statement_timeout,
            pool_pre_ping=True,  # PostgreSQL may have been restarted since
            json_serializer=_dumps,
            json_deserializer=msgspec.json.decode,
            connect_args={
                "timeout": 10,
                "command_timeout": timeout + 5,
                "server_settings": {
                    "application_name": f"iotlinker-{role}",
                    "statement_timeout": str(int(timeout * 1000)),
                },
            },
        )
        return cls(engine)

    @asynccontextmanager
    async def transaction(self, tenant_id: UUID | None) -> AsyncGenerator[AsyncSession]:
        """Run one unit of work: committed at the end, rolled back on any error.

        Args:
            tenant_id: The tenant whose rows exist for this transaction. None is for work that is
                no tenant's: then row-level security hides every tenant's rows.
        """
        async with AsyncSession(self.engine, expire_on_commit=False) as session, session.begin():
            if tenant_id is not None:
                # Local to the transaction, so a pooled connection cannot carry it to the next one.
                await session.execute(
                    sa.select(sa.func.set_config("app.tenant_id", str(tenant_id), True))
                )
            yield session

    async def close(self) -> None:
        """Close every connection."""
        await self.engine.dispose()
