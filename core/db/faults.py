"""What the database's errors mean to whoever asked."""

import asyncpg
import sqlalchemy.exc as sa_exc

from core.errors import ConflictError, InvalidInputError, IoTLinkerError, UnavailableError

_DOWN = (
    ConnectionError,
    TimeoutError,
    sa_exc.TimeoutError,  # no free connection in the pool
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.TooManyConnectionsError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
)
# SQLSTATE classes and codes, PostgreSQL manual, appendix A.
_DOWN_CLASSES = ("08", "53", "57P")
_CANCELLED = "57014"
_DUPLICATE = "23505"
_REFERENCED = "23503"
_DATA_CLASS = "22"


def translate(error: BaseException) -> IoTLinkerError | None:
    """Return the platform's error for one that the database or its driver raised.

    Returns:
        None when it is no fault of the database's but of the code, or not from it at all.
    """
    if isinstance(error, _DOWN):
        return UnavailableError("The database cannot be reached.")
    if not isinstance(error, sa_exc.DBAPIError):
        return None
    state = getattr(error.orig, "sqlstate", None) or ""
    if error.connection_invalidated or state.startswith(_DOWN_CLASSES):
        return UnavailableError("The database cannot be reached.")
    if state == _CANCELLED:
        return UnavailableError("The database took too long; ask for less at once.")
    if state == _DUPLICATE:
        return ConflictError("Something with this name or key exists already.")
    if state == _REFERENCED:
        return ConflictError("Something else refers to it, or what it refers to is gone.")
    if state.startswith(_DATA_CLASS):
        return InvalidInputError("A value cannot be stored: it is out of range or malformed.")
    if isinstance(error, sa_exc.InterfaceError | sa_exc.OperationalError) and not state:
        return UnavailableError("The database cannot be reached.")
    return None
