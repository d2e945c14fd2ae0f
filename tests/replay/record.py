"""Records the histories of automation runs anew: `python -m tests.replay.record [name…]`.

Only for new scenarios, or when a change of the workflow was made on purpose incompatible (then
runs that are under way will fail too, and the change needs `workflow.patched` instead).
"""

import asyncio
import re
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final
from uuid import uuid4

from temporalio import workflow
from temporalio.client import Client, WorkflowFailureError
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

from core.temporal.contracts import ApprovalDecision, WebhookDeliveryInput
from core.temporal.names import TaskQueue, WorkflowType, run_id
from core.temporal.steps import QUERY_STATE, UPDATE_DECIDE, LiveState
from core.temporal.webhook_contracts import AttemptOutcome, WebhookDeliveryResult
from tests.replay.scenarios import SCENARIOS, Scenario
from tests.support.automation_fakes import FakeEffects, run_input
from tests.support.waiting import eventually
from workers.worker import workflow_runner
from workflows.automation_run import AutomationRun

_ROOT: Final = Path(__file__).parents[2]
_LIBRARIES: Final = re.compile(r'[^ "\\]*/python3\.\d+/(site-packages/)?')
HISTORIES: Final = Path(__file__).parent / "histories"


@workflow.defn(name=WorkflowType.WEBHOOK_DELIVERY, sandboxed=False)
class Delivered:
    """Stands in for the delivery of a webhook."""

    @workflow.run
    async def run(self, call: WebhookDeliveryInput) -> WebhookDeliveryResult:
        """Say that it was delivered."""
        return WebhookDeliveryResult(outcome=AttemptOutcome.DELIVERED, attempts=1)


async def record(client: Client, name: str, scenario: Scenario) -> str:
    """Run a scenario and return its history in JSON; payloads are not encrypted."""
    effects = FakeEffects()
    effects.answers = scenario.answers
    run = run_input(scenario.definition, trigger=scenario.trigger, dry_run=name == "dry_run")
    workers = [
        Worker(
            client,
            task_queue=queue,
            workflows=[AutomationRun, Delivered] if queue is TaskQueue.AUTOMATION else [],
            activities=effects.activities(),
            workflow_runner=workflow_runner(strict=True),
        )
        for queue in (TaskQueue.AUTOMATION, TaskQueue.OUTBOUND)
    ]
    async with workers[0], workers[1]:
        handle = await client.start_workflow(
            AutomationRun.run,
            args=[run, None],
            id=run_id(run.tenant_id, run.workflow_id, run.event_key),
            task_queue=TaskQueue.AUTOMATION,
        )

        async def waits() -> bool:
            live = await handle.query(QUERY_STATE, result_type=LiveState)
            return live.status == "waiting"

        if scenario.decide is not None or scenario.cancel:
            await eventually(waits)
        if scenario.decide is not None:
            decision = ApprovalDecision(
                step="ok",
                approved=scenario.decide,
                user_id=uuid4(),
                user_email="ada@example.com",
                roles=("lead",),
            )
            await handle.execute_update(UPDATE_DECIDE, decision)
        if scenario.cancel:
            await handle.cancel()
        with suppress(WorkflowFailureError):  # to fail is what some scenarios are for
            await handle.result()
        return without_folders((await handle.fetch_history()).to_json())


def without_folders(history: str) -> str:
    """Return a history whose stack traces do not name the folders of whoever records."""
    return _LIBRARIES.sub("", history).replace(f"{_ROOT}/", "")


async def _main(names: Sequence[str]) -> None:
    HISTORIES.mkdir(exist_ok=True)
    environment = await WorkflowEnvironment.start_time_skipping(
        data_converter=pydantic_data_converter,
        test_server_existing_path=str(Path(sys.executable).parent / "temporal-test-server"),
    )
    async with environment:
        for name in names or SCENARIOS:
            history = await record(environment.client, name, SCENARIOS[name])
            (HISTORIES / f"{name}.json").write_text(history + "\n")


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1:]))
