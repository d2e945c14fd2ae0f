"""Inputs and results of the webhook activities. Pure data; bodies and secrets stay in the database.

Kept apart from `contracts`: only the delivery workflow and its activities know these.
"""

from enum import StrEnum
from uuid import UUID

from core.temporal.contracts import Contract


class AttemptInput(Contract):
    """Make one attempt.

    Attributes:
        tries: Number of this attempt within its run, from 1: its place in the retry schedule.
        attempt: Number of this attempt in the whole life of the delivery.
        jitter: Random, 0 to 1, drawn by the workflow so that a replay draws the same.
    """

    tenant_id: UUID
    delivery_id: UUID
    tries: int
    attempt: int
    jitter: float


class AttemptOutcome(StrEnum):
    """What an attempt came to."""

    DELIVERED = "delivered"
    RETRY = "retry"
    FAILED = "failed"
    """The last attempt failed; the delivery is given up."""
    DISCARDED = "discarded"
    """The endpoint is disabled or deleted, or nothing is left to deliver."""


class AttemptResult(Contract):
    """Answer of an attempt.

    Attributes:
        retry_in: Seconds until the next attempt; set exactly with `retry`.
        error: Why it failed, for people.
    """

    outcome: AttemptOutcome
    status_code: int | None = None
    error: str | None = None
    retry_in: float | None = None


class GiveUpInput(Contract):
    """Close a delivery that no attempt will follow."""

    tenant_id: UUID
    delivery_id: UUID


class WebhookDeliveryResult(Contract):
    """Result of the delivery workflow."""

    outcome: AttemptOutcome
    attempts: int
