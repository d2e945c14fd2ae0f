"""The migrations make exactly the tables that the code describes, and undo what they did."""

from collections.abc import Iterator
from dataclasses import replace
from uuid import uuid4

import psycopg
import pytest
from alembic import command
from alembic.script import ScriptDirectory
from psycopg import sql

from core.db.migrate import alembic_config, downgrade, upgrade
from core.settings import Settings
from core.settings.database import with_login


@pytest.fixture
def empty(postgres_server: Settings) -> Iterator[Settings]:
    """A database of its own, with the roles' grants and nothing else."""
    name = f"migrations_{uuid4().hex[:8]}"
    admin = postgres_server.admin_database_url
    with psycopg.connect(admin, autocommit=True) as server:
        server.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        server.execute(
            sql.SQL("GRANT CREATE, CONNECT ON DATABASE {} TO iotlinker_owner").format(
                sql.Identifier(name)
            )
        )
    database = postgres_server.database.model_copy(
        update={
            "url": with_login(
                admin, "postgres", postgres_server.secrets.database_superuser, database=name
            )
        }
    )
    settings = replace(postgres_server, database=database)
    with psycopg.connect(settings.admin_database_url, autocommit=True) as fresh:
        fresh.execute("GRANT USAGE, CREATE ON SCHEMA public TO iotlinker_owner")
    yield settings
    with psycopg.connect(admin, autocommit=True) as server:
        server.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def objects(settings: Settings) -> set[str]:
    """Return the names of all relations, functions and policies of ours."""
    with psycopg.connect(settings.admin_database_url) as connection:
        return {
            str(name)
            for (name,) in connection.execute(
                """
                SELECT 'relation ' || relname FROM pg_class
                WHERE relnamespace = 'public'::regnamespace
                UNION SELECT 'function ' || proname FROM pg_proc
                WHERE pronamespace = 'public'::regnamespace
                UNION SELECT 'policy ' || tablename || '.' || policyname FROM pg_policies
                WHERE schemaname = 'public'
                """
            )
        }


def test_up_down_and_up_again_leads_to_the_same_schema(empty: Settings) -> None:
    upgrade(empty)
    first = objects(empty)
    assert "relation devices" in first
    assert "policy devices.tenant" in first
    assert "function current_tenant" in first
    downgrade(empty, "base")
    assert objects(empty) <= {"relation alembic_version", "relation alembic_version_pkc"}
    upgrade(empty)
    assert objects(empty) == first


def test_every_migration_can_be_undone_alone(empty: Settings) -> None:
    script = ScriptDirectory.from_config(alembic_config(empty))
    revisions = [migration.revision for migration in script.walk_revisions()][::-1]
    after: dict[str, set[str]] = {}
    for revision in revisions:
        upgrade(empty, revision)
        after[revision] = objects(empty)
    for revision in revisions[-2::-1]:
        downgrade(empty, revision)
        assert objects(empty) == after[revision]


def test_migrating_twice_changes_nothing(empty: Settings) -> None:
    upgrade(empty)
    first = objects(empty)
    upgrade(empty)
    assert objects(empty) == first


def test_the_tables_are_those_that_the_code_describes(empty: Settings) -> None:
    upgrade(empty)
    command.check(alembic_config(empty))
