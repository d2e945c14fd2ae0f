"""`iotlinker migrate`."""

import asyncio
from pathlib import Path

import typer

from core.db.migrate import downgrade, upgrade
from core.db.roles import ensure_roles
from core.settings import load_settings
from workers.cli.terminal import console, progress


def up(home: Path | None, revision: str) -> None:
    """Create roles and migrate up."""
    settings = load_settings(home)
    with progress("Migrating"):
        asyncio.run(ensure_roles(settings))
        upgrade(settings, revision)
    console.print(f"The schema is at {revision}.")


def down(home: Path | None, revision: str, *, yes: bool) -> None:
    """Migrate down."""
    settings = load_settings(home)
    if not yes:
        typer.confirm(
            f"Take the schema down to {revision}? Data of removed tables is lost", abort=True
        )
    with progress("Migrating"):
        downgrade(settings, revision)
    console.print(f"The schema is at {revision}.")
