"""`iotlinker user`, and the administrator of an empty installation."""

import asyncio
from pathlib import Path

from rich.table import Table

from api.auth.bootstrap import create_administrator
from core.settings import Settings, load_settings
from workers.accounts import is_empty, list_accounts, reset_password
from workers.cli.terminal import console

FIRST_EMAIL = "admin@iotlinker.local"


async def ensure_first_administrator(settings: Settings) -> None:
    """Give an empty installation a tenant and somebody who can sign in."""
    if not await is_empty(settings):
        return
    _, password = await create_administrator(
        settings,
        organization="Default organization",
        tenant="Default tenant",
        subdomain="default",
        email=FIRST_EMAIL,
    )
    show_password(FIRST_EMAIL, password)


def show_password(email: str, password: str | None) -> None:
    """Print a password, the only time it can be seen."""
    if password is None:
        console.print(f"{email} exists already; `iotlinker user reset-password` gives a new one.")
        return
    console.print(f"Sign in as [bold]{email}[/] with the password [bold]{password}[/]")
    console.print("It is shown this once: only a hash of it is stored.")


def create(
    home: Path | None, email: str, *, organization: str, tenant: str, subdomain: str
) -> None:
    """Create an administrator, and their tenant if it is new."""
    _, password = asyncio.run(
        create_administrator(
            load_settings(home),
            organization=organization,
            tenant=tenant,
            subdomain=subdomain,
            email=email,
        )
    )
    show_password(email, password)


def list_users(home: Path | None) -> None:
    """Print every user."""
    table = Table()
    for name in ("e-mail", "tenant", "roles", "last signed in"):
        table.add_column(name)
    for account in asyncio.run(list_accounts(load_settings(home))):
        seen = account.last_login.strftime("%Y-%m-%d %H:%M UTC") if account.last_login else "never"
        state = "" if account.active else " (inactive)"
        table.add_row(account.email + state, account.tenant, ", ".join(account.roles), seen)
    console.print(table)


def reset(home: Path | None, email: str) -> None:
    """Give a user a new password."""
    show_password(email, asyncio.run(reset_password(load_settings(home), email)))
