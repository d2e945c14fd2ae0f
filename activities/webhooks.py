"""Delivering webhooks: one attempt, and giving up."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog
from sqlalchemy.ext.asyncio import AsyncSession
from temporalio import activity

from activities.notices import tell_dashboard
from activities.resources import Resources
from core import webhooks
from core.crypto import DecryptionError
from core.db.repositories import webhook_attempts as repository
from core.db.tables import WebhookAttempt
from core.errors import IoTLinkerError
from core.outbound import OutboundGuard
from core.temporal.activity_names import WebhookActivity
from core.temporal.webhook_contracts import (
    AttemptInput,
    AttemptOutcome,
    AttemptResult,
    GiveUpInput,
)

_BEAT = 4.0  # seconds between heartbeats; the workflow allows 15
_ANSWER = 4096  # bytes of the answer that are read: only its status matters
_GONE = 410
_OUTCOMES = {
    "pending": AttemptOutcome.RETRY,
    "delivered": AttemptOutcome.DELIVERED,
    "failed": AttemptOutcome.FAILED,
    "discarded": AttemptOutcome.DISCARDED,
}

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Answer:
    """What came of one POST.

    Attributes:
        final: Trying again cannot help.
    """

    started_at: datetime
    duration_ms: float
    status_code: int | None = None
    error: str | None = None
    retry_after: float | None = None
    final: bool = False


@dataclass(frozen=True, slots=True)
class _Verdict:
    """Where an answer leaves the delivery and its endpoint."""

    status: str
    retry_in: float | None = None
    disable: str | None = None


class WebhookActivities:
    """The webhook family."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._guard = OutboundGuard(resources.settings.outbound.allow_networks)

    def activities(self) -> Sequence[Callable[..., Any]]:
        """Return its bound activity methods."""
        return (self.attempt, self.give_up)

    @activity.defn(name=WebhookActivity.ATTEMPT)
    async def attempt(self, call: AttemptInput) -> AttemptResult:
        """Send the stored body once and write down what came of it.

        An attempt that was written down is not made again when Temporal asks twice. One that was
        sent and not written down (the process was killed in between) is: the receiver knows it by
        its `webhook-id`.
        """
        async with self._resources.database.transaction(call.tenant_id) as session:
            job = await repository.load(session, call.tenant_id, call.delivery_id)
            if job is None:
                return AttemptResult(outcome=AttemptOutcome.DISCARDED)
            earlier = await repository.recorded(
                session, call.tenant_id, call.delivery_id, call.attempt
            )
            if earlier is not None or job.status != "pending":
                return _repeated(job, earlier)
            if not job.enabled:
                await repository.close(session, call.tenant_id, call.delivery_id, "discarded")
        if not job.enabled:
            await self._tell(call, "discarded")
            return AttemptResult(outcome=AttemptOutcome.DISCARDED)
        answer = await self._post(call, job)
        async with self._resources.database.transaction(call.tenant_id) as session:
            verdict = await self._conclude(session, call, job, answer)
        await self._tell(call, verdict.status, answer)
        if verdict.disable is not None:
            await tell_dashboard(
                self._resources.bus,
                call.tenant_id,
                "webhook_disabled",
                webhook_id=job.webhook_id,
                reason=verdict.disable,
            )
        return AttemptResult(
            outcome=_OUTCOMES[verdict.status],
            status_code=answer.status_code,
            error=answer.error,
            retry_in=verdict.retry_in,
        )

    @activity.defn(name=WebhookActivity.GIVE_UP)
    async def give_up(self, call: GiveUpInput) -> None:
        """Mark a delivery failed whose workflow ends before it has."""
        async with self._resources.database.transaction(call.tenant_id) as session:
            ended = await repository.close(session, call.tenant_id, call.delivery_id, "failed")
        if ended:
            await self._tell(call, "failed")

    async def _post(self, call: AttemptInput, job: repository.Job) -> _Answer:
        started_at = datetime.now(UTC)
        started = time.perf_counter()

        def answer(**fields: Any) -> _Answer:
            return _Answer(started_at, (time.perf_counter() - started) * 1000, **fields)

        try:
            secret = webhooks.open_secret(self._resources.vault, job.webhook_id, job.secret)
        except DecryptionError:
            _log.exception("webhook_secret_unreadable", webhook_id=str(job.webhook_id))
            return answer(error="the endpoint's secret cannot be decrypted", final=True)
        headers = webhooks.headers(secret, call.delivery_id, started_at, job.body)
        async with asyncio.TaskGroup() as group:
            beat = group.create_task(_beat())
            try:
                response = await self._guard.send(
                    self._resources.http,
                    "POST",
                    job.url,
                    headers=headers,
                    content=job.body,
                    timeout=self._resources.settings.outbound.timeout,
                    max_body=_ANSWER,
                )
            except IoTLinkerError as error:
                return answer(error=error.detail[:1000])
            finally:
                beat.cancel()
        succeeded = 200 <= response.status_code < 300
        return answer(
            status_code=response.status_code,
            error=None if succeeded else f"the endpoint answered {response.status_code}",
            retry_after=webhooks.parse_retry_after(
                response.headers.get("retry-after"), datetime.now(UTC)
            ),
        )

    async def _conclude(
        self, session: AsyncSession, call: AttemptInput, job: repository.Job, answer: _Answer
    ) -> _Verdict:
        now = datetime.now(UTC)
        # The endpoint's row before the delivery's: the order in which a deletion locks them.
        if answer.error is None:
            await repository.mark_healthy(session, call.tenant_id, job.webhook_id)
            verdict = _Verdict("delivered")
        elif answer.final:
            verdict = _Verdict("failed")
        else:
            failing = await repository.mark_failing(session, call.tenant_id, job.webhook_id, now)
            verdict = _judge(call, answer, failing)
        if verdict.disable is not None:
            await repository.disable(session, call.tenant_id, job.webhook_id, verdict.disable)
        await repository.record(
            session,
            WebhookAttempt(
                delivery_id=call.delivery_id,
                attempt=call.attempt,
                tenant_id=call.tenant_id,
                started_at=answer.started_at,
                duration_ms=answer.duration_ms,
                status_code=answer.status_code,
                error=answer.error,
            ),
            status=verdict.status,
            next_attempt_at=(
                None if verdict.retry_in is None else now + timedelta(seconds=verdict.retry_in)
            ),
        )
        return verdict

    async def _tell(
        self, call: AttemptInput | GiveUpInput, status: str, answer: _Answer | None = None
    ) -> None:
        await tell_dashboard(
            self._resources.bus,
            call.tenant_id,
            "webhook_delivery",
            delivery_id=call.delivery_id,
            status=status,
            attempt=call.attempt if isinstance(call, AttemptInput) else None,
            status_code=answer.status_code if answer else None,
            error=answer.error if answer else None,
        )


def _judge(call: AttemptInput, answer: _Answer, failing: timedelta) -> _Verdict:
    if answer.status_code == _GONE:
        return _Verdict("discarded", disable="the endpoint answered 410 Gone")
    if failing.total_seconds() >= webhooks.LASTING_FAILURE:
        days = failing.total_seconds() / 86400
        return _Verdict(
            "discarded", disable=f"every delivery failed for {days:.0f} days; last: {answer.error}"
        )
    wait = webhooks.retry_in(call.tries, call.jitter, answer.retry_after)
    return _Verdict("failed") if wait is None else _Verdict("pending", retry_in=wait)


def _repeated(job: repository.Job, earlier: WebhookAttempt | None) -> AttemptResult:
    outcome = _OUTCOMES[job.status]
    wait = None
    if outcome is AttemptOutcome.RETRY:
        due = job.next_attempt_at or datetime.now(UTC)
        wait = max(0.0, (due - datetime.now(UTC)).total_seconds())
    return AttemptResult(
        outcome=outcome,
        status_code=earlier.status_code if earlier else None,
        error=earlier.error if earlier else None,
        retry_in=wait,
    )


async def _beat() -> None:
    while True:
        activity.heartbeat()
        await asyncio.sleep(_BEAT)
