"""PostgreSQL roles and databases: created by an administrator, before the migrations.

| role | may |
|---|---|
| iotlinker_owner | own and migrate the tables |
| iotlinker_api | read and write rows of the transaction's tenant |
| iotlinker_worker | the same, and see the outbox of all tenants |
| iotlinker_ingest | insert measurements and their consequences for any tenant, read what it needs |
| iotlinker_mlflow | own MLflow's database |
"""

import asyncpg

from core.settings import Settings
from core.settings.database import Role

_ROLES: tuple[Role, ...] = ("owner", "api", "ingest", "worker", "mlflow")

# COPY refuses a table with row-level security, so ingest passes it by; its grants (in the
# migrations) are what binds it.
_ATTRIBUTES: dict[Role, str] = {"ingest": "BYPASSRLS"}


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


async def ensure_roles(settings: Settings) -> None:
    """Create or correct the roles, their passwords, and MLflow's database.

    Raises:
        asyncpg.InsufficientPrivilegeError: The administrator's address may not create roles.
    """
    connection = await asyncpg.connect(settings.admin_database_url, timeout=10)
    try:
        # Several processes may come here at once in a cluster; the number is arbitrary.
        await connection.execute("SELECT pg_advisory_lock(7104202)")
        for role in _ROLES:
            name = f"iotlinker_{role}"
            exists = await connection.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", name)
            attributes = _ATTRIBUTES.get(role, "NOBYPASSRLS")
            password = _literal(getattr(settings.secrets, f"database_{role}"))
            verb = "ALTER" if exists else "CREATE"
            await connection.execute(
                f"{verb} ROLE {name} LOGIN {attributes} NOSUPERUSER NOCREATEDB NOCREATEROLE "
                f"PASSWORD {password}"
            )
        database = await connection.fetchval("SELECT quote_ident(current_database())")
        await connection.execute(f"GRANT CREATE, CONNECT ON DATABASE {database} TO iotlinker_owner")
        await connection.execute("GRANT USAGE, CREATE ON SCHEMA public TO iotlinker_owner")
        await connection.execute(
            "GRANT USAGE ON SCHEMA public TO iotlinker_api, iotlinker_ingest, iotlinker_worker"
        )
        mlflow = settings.database.mlflow_name
        if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", mlflow):
            await connection.execute("GRANT iotlinker_mlflow TO CURRENT_USER")
            await connection.execute(f'CREATE DATABASE "{mlflow}" OWNER iotlinker_mlflow')
    finally:
        await connection.close(timeout=10)
