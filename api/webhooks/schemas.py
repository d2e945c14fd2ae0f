"""Forms and answers of webhooks."""

from datetime import datetime
from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import Field, StringConstraints

from api.schemas import Form, Name, Pagination, View
from core.db.repositories.webhooks import DeliveryRecord

Url = Annotated[str, StringConstraints(min_length=1, max_length=2000, pattern=r"^[^\s\x00]+$")]
EventType = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.\-]{1,100}$")]
EventTypes = Annotated[list[EventType], Field(max_length=100)]
DeliveryStatus = Literal["pending", "delivered", "failed", "discarded"]


class WebhookForm(Form):
    """A new endpoint; without event types it gets all."""

    name: Name
    url: Url
    event_types: EventTypes = Field(default_factory=list)


class WebhookChange(Form):
    """What changes of an endpoint; fields left out stay as they are."""

    name: Name | None = None
    url: Url | None = None
    event_types: EventTypes | None = None
    enabled: bool | None = None


class WebhookView(View):
    """An endpoint.

    Attributes:
        disabled_reason: Why the platform disabled it.
        failing_since: First failure of the current unbroken row of failures.
    """

    id: UUID
    name: str
    url: str
    event_types: list[str]
    enabled: bool
    disabled_reason: str | None
    failing_since: datetime | None
    created_at: datetime


class WebhookWithSecret(View):
    """An endpoint and its signing secret, which is shown once."""

    webhook: WebhookView
    secret: str


class WebhookList(View):
    """A page of endpoints."""

    webhooks: list[WebhookView]
    pagination: Pagination


class AttemptView(View):
    """One try of one delivery."""

    attempt: int
    started_at: datetime
    duration_ms: float
    status_code: int | None
    error: str | None


class DeliveryView(View):
    """One event for one endpoint; `id` is the `webhook-id` header of every attempt."""

    id: UUID
    webhook_id: UUID
    event_type: str
    status: DeliveryStatus
    body: str
    next_attempt_at: datetime | None
    created_at: datetime
    completed_at: datetime | None
    attempts: list[AttemptView]

    @classmethod
    def of(cls, record: DeliveryRecord) -> Self:
        """Describe a stored delivery."""
        return cls.model_validate(
            {
                **record.delivery.model_dump(),
                "body": record.delivery.body.decode("utf-8", "replace"),
                "attempts": list(record.attempts),
            }
        )


class DeliveryList(View):
    """A page of deliveries."""

    deliveries: list[DeliveryView]
    pagination: Pagination
