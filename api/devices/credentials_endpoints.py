"""`/api/v1/devices/{device_id}/credentials`."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Body

from api.deps import PageDep, ServicesDep, WorkDep
from api.devices import credentials
from api.devices.credentials import (
    CertificateForm,
    CredentialList,
    CredentialView,
    RotationForm,
)
from api.devices.schemas import CredentialsView
from api.openapi import GUARDED, problems
from api.security.permissions import requires

router = APIRouter(
    prefix="/api/v1/devices/{device_id}/credentials", tags=["devices"], responses=GUARDED
)


@router.get("", dependencies=[requires("devices:read")], responses=problems(404))
async def list_credentials(work: WorkDep, page: PageDep, device_id: UUID) -> CredentialList:
    """List what a device signs in with, void ones included, newest first; never a key."""
    return await credentials.page(work, device_id, page)


@router.post("/rotate", dependencies=[requires("devices:provision")], responses=problems(404, 409))
async def rotate_credentials(
    work: WorkDep,
    services: ServicesDep,
    device_id: UUID,
    form: Annotated[RotationForm | None, Body()] = None,
) -> CredentialsView:
    """Replace a device's key; the old one ends at once, or after `overlap`."""
    return await credentials.rotate(
        work, device_id, form or RotationForm(), services.settings.mqtt_endpoint
    )


@router.post(
    "/certificates",
    status_code=201,
    dependencies=[requires("devices:provision")],
    responses=problems(404, 409),
)
async def add_certificate(work: WorkDep, device_id: UUID, form: CertificateForm) -> CredentialView:
    """Let a device sign in with a client certificate, known by its SHA-256."""
    return await credentials.add_certificate(work, device_id, form)


@router.delete(
    "/{credential_id}",
    status_code=204,
    dependencies=[requires("devices:provision")],
    responses=problems(404),
)
async def revoke_credential(work: WorkDep, device_id: UUID, credential_id: UUID) -> None:
    """Revoke one credential for good; the device's live connection is dropped."""
    await credentials.revoke(work, device_id, credential_id)


@router.delete(
    "", status_code=204, dependencies=[requires("devices:provision")], responses=problems(404)
)
async def revoke_credentials(work: WorkDep, device_id: UUID) -> None:
    """Revoke a device's keys and certificates, until it is given new ones."""
    await credentials.revoke_all(work, device_id)
