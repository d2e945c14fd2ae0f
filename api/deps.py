"""What endpoints ask for by type: services, the caller, the unit of work, a page."""

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Query
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.requests import HTTPConnection

from api.security.caller import Caller
from api.services import Services
from api.work import Work, unit_of_work


def get_services(connection: HTTPConnection) -> Services:
    """Return the process's services."""
    return connection.app.state.services


ServicesDep = Annotated[Services, Depends(get_services)]


async def get_caller(connection: HTTPConnection, services: ServicesDep) -> Caller:
    """Return who calls.

    Raises:
        NotAuthenticatedError: There is no valid token, or its session has ended.
    """
    return await services.authenticate(connection)


CallerDep = Annotated[Caller, Depends(get_caller)]


def client_address(connection: HTTPConnection) -> str:
    """Return the client's address; behind a proxy the server has put the real one there."""
    return connection.client.host[:64] if connection.client else ""


AddressDep = Annotated[str, Depends(client_address)]


async def get_work(
    services: ServicesDep, caller: CallerDep, address: AddressDep
) -> AsyncGenerator[Work]:
    """Run the request in one transaction."""
    async with unit_of_work(services.database, services.bus, caller, address) as work:
        yield work


# Scope "function": the commit must have succeeded before the answer leaves.
WorkDep = Annotated[Work, Depends(get_work, scope="function")]


def get_session(work: WorkDep) -> AsyncSession:
    """Return the request's transaction."""
    return work.session


SessionDep = Annotated[AsyncSession, Depends(get_session, scope="function")]


@dataclass(frozen=True, slots=True)
class WorkFactory:
    """Makes units of work by hand, for endpoints that must not hold a transaction all along."""

    services: Services
    caller: Caller
    address: str

    def __call__(self) -> AbstractAsyncContextManager[Work]:
        """Return the next unit of work."""
        return unit_of_work(self.services.database, self.services.bus, self.caller, self.address)


def get_work_factory(services: ServicesDep, caller: CallerDep, address: AddressDep) -> WorkFactory:
    """Return a maker of units of work."""
    return WorkFactory(services, caller, address)


WorkFactoryDep = Annotated[WorkFactory, Depends(get_work_factory)]


@dataclass(frozen=True, slots=True)
class Page:
    """Which part of a list is wanted.

    Attributes:
        number: From 1.
        limit: Entries on a page.
    """

    number: int
    limit: int

    @property
    def offset(self) -> int:
        """Entries before this page."""
        return (self.number - 1) * self.limit


def get_page(
    page: Annotated[int, Query(ge=1, le=1_000_000, description="From 1.")] = 1,
    limit: Annotated[int, Query(ge=1, le=500, description="Entries on a page.")] = 50,
) -> Page:
    """Read the page from the query."""
    return Page(page, limit)


PageDep = Annotated[Page, Depends(get_page)]
