"""Columns that many tables share."""

from datetime import datetime
from typing import Any, ClassVar, Literal
from uuid import UUID, uuid4

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field, SQLModel


class Table(SQLModel):
    """Base of every table."""

    # SQLModel types this as a declared_attr, which no plain string satisfies.
    __tablename__: ClassVar[str]  # pyright: ignore[reportIncompatibleVariableOverride]


def uuid_key() -> Any:
    """Return a random primary key."""
    return Field(
        default_factory=uuid4,
        sa_type=sa.Uuid,
        primary_key=True,
        sa_column_kwargs={"server_default": sa.text("gen_random_uuid()")},
    )


def tenant_key() -> Any:
    """Return the tenant of the row; row-level security rests on it."""
    return Field(foreign_key="tenants.id", ondelete="CASCADE", index=True)


def reference(
    target: str,
    *,
    ondelete: Literal["CASCADE", "SET NULL", "RESTRICT"] = "CASCADE",
    index: bool = True,
    **more: Any,
) -> Any:
    """Return a foreign key."""
    return Field(foreign_key=target, ondelete=ondelete, index=index, **more)


def moment(*, now: bool = False, index: bool = False) -> Any:
    """Return an instant with time zone; with `now`, when the row was written."""
    extra: dict[str, Any] = {"server_default": sa.func.now()} if now else {}
    return Field(
        default=None,
        sa_type=sa.DateTime(timezone=True),
        sa_column_kwargs={"nullable": not now, **extra},
        index=index,
    )


def document(default: str | None = "{}") -> Any:
    """Return a JSONB column; `default` is the JSON text of its default, None makes it nullable."""
    if default is None:
        return Field(default=None, sa_type=JSONB, sa_column_kwargs={"nullable": True})
    return Field(
        default_factory=dict if default == "{}" else list,
        sa_type=JSONB,
        sa_column_kwargs={"nullable": False, "server_default": sa.text(f"'{default}'")},
    )


Instant = datetime | None
Document = dict[str, Any]
__all__ = [
    "UUID",
    "Document",
    "Instant",
    "Table",
    "document",
    "moment",
    "reference",
    "tenant_key",
    "uuid_key",
]
