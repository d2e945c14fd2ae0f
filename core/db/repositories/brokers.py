"""Which broker processes live. On asyncpg as the role `ingest`."""

from uuid import UUID

from core.db.repositories.ingest import Connection


async def beat(connection: Connection, name: str, broker_id: UUID) -> int:
    """Note that a process lives; return how many rows there are, its own included."""
    await connection.execute(
        """
        INSERT INTO broker_instances (name, id) VALUES ($1, $2)
        ON CONFLICT (name) DO UPDATE SET id = excluded.id, heartbeat_at = now()
        """,
        name,
        broker_id,
    )
    row = await connection.fetchrow("SELECT count(*) FROM broker_instances")
    return 0 if row is None else row[0]


async def forget_silent(connection: Connection, seconds: float) -> int:
    """Delete the rows of processes that have been silent for so long; return how many."""
    done = await connection.execute(
        "DELETE FROM broker_instances WHERE heartbeat_at < now() - make_interval(secs => $1)",
        seconds,
    )
    return int(done.rsplit(" ", 1)[1])


async def leave(connection: Connection, broker_id: UUID) -> None:
    """Delete the row of a process that ends."""
    await connection.execute("DELETE FROM broker_instances WHERE id = $1", broker_id)


async def orphans_offline(connection: Connection) -> list[tuple[UUID, UUID]]:
    """Mark devices offline whose broker process is no more; return their ids and tenants."""
    rows = await connection.fetch(
        """
        UPDATE devices d SET broker_id = NULL,
            status = CASE d.status WHEN 'online' THEN 'offline' ELSE d.status END
        WHERE d.broker_id IS NOT NULL
          AND NOT EXISTS (SELECT FROM broker_instances b WHERE b.id = d.broker_id)
        RETURNING d.id, d.tenant_id
        """
    )
    return [(row["id"], row["tenant_id"]) for row in rows]
