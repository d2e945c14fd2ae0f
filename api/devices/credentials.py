"""Keys and client certificates of devices."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Final, Literal, Self
from uuid import UUID

from pydantic import AfterValidator, Field, StringConstraints
from sqlalchemy.exc import IntegrityError

from api.deps import Page
from api.devices.certificates import read_certificate
from api.devices.schemas import CredentialsView
from api.devices.service import add_key, found, in_service
from api.schemas import Form, Pagination, View
from api.work import Work
from core import bus
from core.db.repositories import credentials
from core.db.tables import DeviceCredential
from core.dsl.durations import parse_duration
from core.errors import ConflictError, NotFoundError

MAX_VALID: Final = 10
"""Credentials a device may have at a time that are good for signing in."""
MAX_OVERLAP: Final = timedelta(days=90)


def _overlap(text: str) -> str:
    if parse_duration(text) > MAX_OVERLAP:
        raise ValueError(f"longer than {MAX_OVERLAP.days} days")
    return text


class RotationForm(Form):
    """How a key is replaced."""

    overlap: (
        Annotated[
            str,
            StringConstraints(max_length=50),
            AfterValidator(_overlap),
            Field(
                description="ISO 8601 duration, such as P7D, for which the old keys are good "
                "beside the new one; without it they end at once.",
                examples=["PT1H"],
            ),
        ]
        | None
    ) = None


class CertificateForm(Form):
    """A device's client certificate."""

    certificate: Annotated[str, StringConstraints(min_length=1, max_length=16_384)] = Field(
        description="X.509 in PEM form, without its private key and without those that signed it."
    )


class CredentialView(View):
    """What is known of a credential; the key itself is stored nowhere.

    `certificate_sha256` is in hexadecimal, as `openssl x509 -fingerprint -sha256` shows it.
    """

    id: UUID
    kind: Literal["key", "x509"]
    state: Literal["valid", "expired", "revoked"]
    certificate_sha256: str | None
    subject: str | None
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None

    @classmethod
    def of(cls, row: DeviceCredential) -> Self:
        """Describe a stored credential."""
        state = "valid"
        if row.revoked_at is not None:
            state = "revoked"
        elif row.expires_at is not None and row.expires_at <= datetime.now(UTC):
            state = "expired"
        shown = row.model_dump(exclude={"key_sha256", "certificate_sha256"})
        digest = row.certificate_sha256
        return cls.model_validate(
            {
                **shown,
                "state": state,
                "certificate_sha256": None if digest is None else digest.hex(),
            }
        )


class CredentialList(View):
    """A page of credentials."""

    credentials: list[CredentialView]
    pagination: Pagination


async def page(work: Work, device_id: UUID, place: Page) -> CredentialList:
    """Return a page of a device's credentials.

    Raises:
        NotFoundError: There is no such device.
    """
    await found(work, device_id)
    rows, total = await credentials.page(
        work.session, device_id, offset=place.offset, limit=place.limit
    )
    return CredentialList(
        credentials=[CredentialView.of(row) for row in rows],
        pagination=Pagination.of(place, total),
    )


async def rotate(
    work: Work, device_id: UUID, form: RotationForm, mqtt_endpoint: str
) -> CredentialsView:
    """Give a device a new key; the old ones end at once, or after the overlap.

    Its certificates are left as they are. Without overlap its live connection is dropped.

    Raises:
        NotFoundError: There is no such device.
        ConflictError: It is out of service, or has too many credentials.
    """
    await in_service(work, device_id)
    if form.overlap is None:
        await credentials.revoke(work.session, device_id, kind="key")
        work.notify(bus.DEVICE_DISCONNECT, str(device_id))
    else:
        ends = datetime.now(UTC) + parse_duration(form.overlap)
        await credentials.end_keys(work.session, device_id, ends)
        await _room(work, device_id)
    key = add_key(work, device_id)
    work.audit("device.credentials_rotated", "device", device_id, overlap=form.overlap)
    return CredentialsView(device_id=device_id, device_key=key, mqtt_endpoint=mqtt_endpoint)


async def add_certificate(work: Work, device_id: UUID, form: CertificateForm) -> CredentialView:
    """Let a device sign in with a client certificate.

    Raises:
        NotFoundError: There is no such device.
        ConflictError: It is out of service, has too many credentials, or the certificate was
            given to a device before.
        InvalidInputError: The certificate cannot be used.
    """
    await in_service(work, device_id)
    certificate = read_certificate(form.certificate)
    await _room(work, device_id)
    row = DeviceCredential(
        tenant_id=work.tenant_id,
        device_id=device_id,
        kind="x509",
        certificate_sha256=certificate.sha256,
        subject=certificate.subject,
        expires_at=certificate.expires_at,
    )
    try:
        async with work.session.begin_nested():
            work.session.add(row)
    except IntegrityError as error:
        raise ConflictError(
            "This certificate was given to a device before; one that was revoked stays so."
        ) from error
    await work.session.refresh(row)
    work.audit(
        "device.certificate_added",
        "device",
        device_id,
        credential_id=str(row.id),
        certificate_sha256=certificate.sha256.hex(),
    )
    return CredentialView.of(row)


async def revoke(work: Work, device_id: UUID, credential_id: UUID) -> None:
    """Revoke one credential.

    The device's live connection is dropped; with another credential it may come back.

    Raises:
        NotFoundError: There is no such credential of such a device.
    """
    await found(work, device_id)
    row = await credentials.revoke_one(work.session, device_id, credential_id)
    if row is None:
        raise NotFoundError("There is no such credential.")
    work.audit(
        "device.credential_revoked",
        "device",
        device_id,
        credential_id=str(credential_id),
        kind=row.kind,
    )
    work.notify(bus.DEVICE_DISCONNECT, str(device_id))


async def revoke_all(work: Work, device_id: UUID) -> None:
    """Revoke every credential of a device; its live connection is dropped.

    Raises:
        NotFoundError: There is none.
    """
    await found(work, device_id)
    revoked = await credentials.revoke(work.session, device_id)
    work.audit("device.credentials_revoked", "device", device_id, revoked=revoked)
    work.notify(bus.DEVICE_DISCONNECT, str(device_id))


async def _room(work: Work, device_id: UUID) -> None:
    if await credentials.count_valid(work.session, device_id) >= MAX_VALID:
        raise ConflictError(f"The device has {MAX_VALID} valid credentials; revoke one first.")
