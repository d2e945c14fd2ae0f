"""`/api/v1/auth`."""

from typing import Annotated

from fastapi import APIRouter, Header

from api.auth import service
from api.auth.schemas import LoginForm, MeView, RefreshForm, TokensView
from api.deps import AddressDep, CallerDep, ServicesDep, WorkDep
from api.openapi import PROBLEMS, problems
from api.security.permissions import public, signed_in

router = APIRouter(prefix="/api/v1/auth", tags=["auth"], responses=PROBLEMS)


@router.post("/login", dependencies=[public], responses=problems(401, 429))
async def login(
    form: LoginForm,
    services: ServicesDep,
    address: AddressDep,
    user_agent: Annotated[str, Header()] = "",
) -> TokensView:
    """Sign in with e-mail address and password."""
    return await service.login(services, form, address=address, agent=user_agent)


@router.post("/refresh", dependencies=[public], responses=problems(401))
async def refresh(form: RefreshForm, services: ServicesDep, address: AddressDep) -> TokensView:
    """Exchange a refresh token, once; using it a second time ends the session."""
    return await service.refresh(services, form.refresh_token, address=address)


@router.post("/logout", status_code=204, dependencies=[signed_in], responses=problems(401))
async def logout(services: ServicesDep, caller: CallerDep, address: AddressDep) -> None:
    """End the session; its access tokens are refused from now on."""
    await service.logout(services, caller, address=address)


@router.get("/me", dependencies=[signed_in], responses=problems(401, 404))
async def me(work: WorkDep) -> MeView:
    """Describe the signed-in user."""
    return await service.me(work)
