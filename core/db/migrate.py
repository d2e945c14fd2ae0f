"""Runs the Alembic migrations, up and down."""

from pathlib import Path

from alembic import command
from alembic.config import Config

from core.settings import Settings


def alembic_config(settings: Settings) -> Config:
    """Return the configuration; the address never passes through a file."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["database_url"] = settings.database_url("owner")
    return config


def upgrade(settings: Settings, revision: str = "head") -> None:
    """Bring the schema up to `revision`. Roles must exist (`core.db.roles`)."""
    command.upgrade(alembic_config(settings), revision)


def downgrade(settings: Settings, revision: str) -> None:
    """Take the schema down to `revision`; `base` removes every table and its data."""
    command.downgrade(alembic_config(settings), revision)
