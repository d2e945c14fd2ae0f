"""The runs that are recorded: every type of step, every way of waiting and ending."""

from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from temporalio.exceptions import ApplicationError

from core.temporal.activity_names import AutomationActivity
from core.temporal.steps import DEVICE_COMMAND_TIMEOUT, StepCall
from tests.support.automation_fakes import Effect
from tests.support.automations import definition

DEVICE = "5f0f7a52-6f0c-4b6e-9a43-0c5a1c0f4a11"
DELIVERY = "f3a7a0ad-98d4-4e0c-8a4c-8e5f6f4c2b55"


@dataclass(frozen=True, slots=True)
class Scenario:
    """One run.

    Attributes:
        decide: What a person answers when the run asks, None for nobody.
        cancel: Cancel it when it waits.
    """

    definition: dict[str, Any]
    trigger: dict[str, Any] = field(default_factory=lambda: {"type": "manual", "input": {"n": 3}})
    answers: dict[AutomationActivity, dict[str, Any] | Effect] = field(default_factory=dict)
    decide: bool | None = None
    cancel: bool = False


def _timeout(_: StepCall) -> dict[str, Any]:
    raise ApplicationError("no answer", 1, type=DEVICE_COMMAND_TIMEOUT, non_retryable=True)


def _command(**more: Any) -> dict[str, Any]:
    given = {"name": "throttle", "device_id": DEVICE, "payload": {"to": 0.4}}
    return {"id": "stop", "type": "device_command", "with": given} | more


_ALARM: dict[str, Any] = {"id": "alarm", "type": "alarm", "with": {"name": "hot"}}
_APPROVAL: dict[str, Any] = {
    "id": "ok",
    "type": "approval",
    "with": {"to": ["role:lead"], "timeout": "P2D", "on_timeout": "reject"},
}
_WEBHOOK: dict[str, Any] = {
    "id": "tell",
    "type": "webhook",
    "with": {"webhook": "erp", "event_type": "engine.hot", "data": {"n": "${trigger.input.n}"}},
}

SCENARIOS: dict[str, Scenario] = {
    "if": Scenario(
        definition(
            {
                "id": "gate",
                "type": "if",
                "condition": "trigger.input.n > 2",
                "then": [_ALARM],
                "else": [{"id": "x", "type": "set", "with": {"vars": {"y": 1}}}],
            },
            conditions=[{"expr": "trigger.type == 'manual'"}],
        )
    ),
    "set": Scenario(
        definition({"id": "x", "type": "set", "with": {"vars": {"at": "${now}", "n": 1}}})
    ),
    "delay": Scenario(
        definition({"id": "wait", "type": "delay", "with": {"duration": "P2D"}}, _ALARM)
    ),
    "predict": Scenario(
        definition(
            {
                "id": "ask",
                "type": "predict",
                "with": {"device_id": DEVICE, "prediction_type": "failure", "horizon": 24},
            },
            {"id": "x", "type": "set", "with": {"vars": {"p": "${steps.ask.probability}"}}},
        ),
        answers={AutomationActivity.PREDICT: {"probability": 0.9}},
    ),
    "alarm": Scenario(definition(_ALARM, {**_ALARM, "id": "again", "retry": {"attempts": 2}})),
    "device_command": Scenario(
        definition(_command(timeout="PT5M")),
        answers={AutomationActivity.DEVICE_COMMAND: {"response": {"ok": True}}},
    ),
    "device_command_retried": Scenario(
        definition(_command(retry={"attempts": 2}, continue_on_error=True), _ALARM),
        answers={AutomationActivity.DEVICE_COMMAND: _timeout},
    ),
    "http_request": Scenario(
        definition({"id": "call", "type": "http_request", "with": {"url": "https://example.com"}}),
        answers={AutomationActivity.HTTP_REQUEST: {"status": 200, "body": ""}},
    ),
    "webhook": Scenario(
        definition(_WEBHOOK),
        answers={AutomationActivity.CREATE_WEBHOOK_DELIVERY: {"delivery_id": DELIVERY}},
    ),
    "webhook_waited_for": Scenario(
        definition(_WEBHOOK | {"with": _WEBHOOK["with"] | {"wait": True}}),
        answers={
            AutomationActivity.CREATE_WEBHOOK_DELIVERY: {
                "delivery_id": str(UUID(int=UUID(DELIVERY).int + 1))
            }
        },
    ),
    "approval": Scenario(definition(_APPROVAL, _ALARM), decide=True),
    "approval_rejected": Scenario(definition(_APPROVAL, _ALARM), decide=False),
    "approval_timed_out": Scenario(definition(_APPROVAL, _ALARM)),
    "cancelled": Scenario(definition(_APPROVAL, _ALARM), cancel=True),
    "run_timeout": Scenario(definition(_APPROVAL, _ALARM, settings={"timeout": "PT1H"})),
    "condition_not_held": Scenario(definition(_ALARM, conditions=[{"expr": "false"}])),
    "dry_run": Scenario(definition(_ALARM, _command())),
}
