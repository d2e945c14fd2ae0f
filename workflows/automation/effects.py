"""How each kind of effect is carried out: which activity, where, how long, how often."""

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from temporalio.common import RetryPolicy

from core.dsl.durations import parse_duration
from core.dsl.schema import (
    AlarmStep,
    DeviceCommandStep,
    EffectStep,
    HttpRequestStep,
    PredictStep,
    WebhookStep,
)
from core.temporal.activity_names import AutomationActivity
from core.temporal.names import TaskQueue

# A database or worker that is down comes back: what only touches our own parts waits for it, as
# long as the run may take.
PATIENT: Final = RetryPolicy(
    initial_interval=timedelta(milliseconds=200), maximum_interval=timedelta(seconds=30)
)
LONGEST_BACKOFF: Final = timedelta(minutes=5)
LOCAL_TIMEOUT: Final = timedelta(seconds=10)
"""Of one try of a short write to our own database."""


@dataclass(frozen=True, slots=True)
class Effect:
    """How one type of step is carried out.

    Attributes:
        local: A short idempotent write, done within the workflow task without a queue's round
            trip.
        attempt_timeout: The longest one try may take.
        heartbeat: A worker that is silent for so long counts as dead.
        retry: When the step does not say.
    """

    activity: AutomationActivity
    attempt_timeout: timedelta = LOCAL_TIMEOUT
    local: bool = False
    queue: TaskQueue = TaskQueue.AUTOMATION
    heartbeat: timedelta | None = None
    retry: RetryPolicy = field(default_factory=lambda: PATIENT)


EFFECTS: Final[dict[type[EffectStep], Effect]] = {
    AlarmStep: Effect(AutomationActivity.ALARM, local=True),
    WebhookStep: Effect(AutomationActivity.CREATE_WEBHOOK_DELIVERY, local=True),
    PredictStep: Effect(AutomationActivity.PREDICT, attempt_timeout=timedelta(minutes=2)),
    DeviceCommandStep: Effect(
        AutomationActivity.DEVICE_COMMAND,
        # The activity ends itself at the command's own time-out; this only bounds a bug.
        attempt_timeout=timedelta(days=1),
        heartbeat=timedelta(seconds=10),
    ),
    HttpRequestStep: Effect(
        AutomationActivity.HTTP_REQUEST,
        attempt_timeout=timedelta(minutes=2),
        queue=TaskQueue.OUTBOUND,
        retry=RetryPolicy(
            initial_interval=timedelta(seconds=1),
            maximum_interval=LONGEST_BACKOFF,
            maximum_attempts=5,
        ),
    ),
}


def retry_policy(step: EffectStep, effect: Effect) -> RetryPolicy:
    """Return the policy of the step, else that of its type."""
    if step.retry is None:
        return effect.retry
    first = parse_duration(step.retry.backoff)
    return RetryPolicy(
        initial_interval=first,
        maximum_interval=max(first, LONGEST_BACKOFF),
        maximum_attempts=step.retry.attempts,
    )
