"""Payloads of `trigger_outbox` rows: what the relay tells Temporal.

A row is written in the transaction of its cause, by the broker (a trigger fired, a device
connected) or the API (a run was asked for). `TriggerOutbox.key` makes a repeated cause a no-op;
the Temporal workflow id makes a repeated telling one.
"""

from typing import Any, Literal

import msgspec

from core.temporal.names import Signal, TaskQueue, WorkflowType

StartInput = dict[str, Any]


class StartWorkflow(msgspec.Struct, frozen=True, tag="start_workflow", tag_field="kind"):
    """Start any workflow; `input` is its contract model in JSON form.

    With `again`, a workflow of this id that has ended is no obstacle; one that runs always is.
    """

    workflow_type: WorkflowType
    workflow_id: str
    input: StartInput
    task_queue: TaskQueue = TaskQueue.AUTOMATION
    again: bool = False


class StartRun(msgspec.Struct, frozen=True, tag="start_run", tag_field="kind"):
    """Start an automation run; the relay inserts the execution and snapshots the definition.

    `version` is the one whose trigger fired. Ids are strings so that the row stays plain JSON.
    """

    workflow_id: str
    version: int
    event_key: str
    trigger: dict[str, Any]
    device_id: str | None = None
    dry_run: bool = False


class SendSignal(msgspec.Struct, frozen=True, tag="signal", tag_field="kind"):
    """Signal a workflow; one that is gone already is no error."""

    workflow_id: str
    signal: Signal
    payload: dict[str, Any]


OutboxPayload = StartWorkflow | StartRun | SendSignal
OutboxKind = Literal["start_workflow", "start_run", "signal"]
