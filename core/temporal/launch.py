"""Starting workflows and signalling them, from the process that holds the worker: the relay.

Everything may be told twice: the second time changes nothing.
"""

from datetime import timedelta
from typing import Final

from temporalio.client import Client
from temporalio.common import (
    Priority,
    SearchAttributeKey,
    SearchAttributePair,
    TypedSearchAttributes,
    WorkflowIDReusePolicy,
)
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from core.temporal.contracts import RunInput
from core.temporal.names import TaskQueue, WorkflowType
from core.temporal.outbox import SendSignal, StartWorkflow

RPC_TIMEOUT: Final = timedelta(seconds=10)

_TENANT: Final = SearchAttributeKey.for_keyword("IotTenant")
_AUTOMATION: Final = SearchAttributeKey.for_keyword("IotAutomation")
_VERSION: Final = SearchAttributeKey.for_int("IotVersion")
_TRIGGER: Final = SearchAttributeKey.for_keyword("IotTrigger")
_DEVICE: Final = SearchAttributeKey.for_keyword("IotDevice")


async def start_run(client: Client, temporal_id: str, run: RunInput) -> None:
    """Start an automation run, unless its event has started one.

    Raises:
        temporalio.service.RPCError: Temporal does not answer, or refuses.
    """
    device_id = (run.device or {}).get("id") or run.trigger.get("device_id")
    attributes: list[SearchAttributePair] = [
        SearchAttributePair(_TENANT, str(run.tenant_id)),
        SearchAttributePair(_AUTOMATION, str(run.workflow_id)),
        SearchAttributePair(_VERSION, run.version),
        SearchAttributePair(_TRIGGER, str(run.trigger.get("type", "manual"))),
    ]
    if device_id:
        attributes.append(SearchAttributePair(_DEVICE, str(device_id)))
    try:
        await client.start_workflow(
            WorkflowType.AUTOMATION_RUN,
            # Both parameters always: with fewer, the SDK ignores their types.
            args=[run, None],
            id=temporal_id,
            task_queue=TaskQueue.AUTOMATION,
            id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
            search_attributes=TypedSearchAttributes(attributes),
            priority=Priority(fairness_key=str(run.tenant_id)),
            # The first task comes with the answer when this process has a worker that is free.
            request_eager_start=True,
            rpc_timeout=RPC_TIMEOUT,
        )
    except WorkflowAlreadyStartedError:
        return


async def start_workflow(client: Client, tenant_id: str, wanted: StartWorkflow) -> None:
    """Start any workflow, unless its id was used (or, with `again`, is in use).

    Raises:
        temporalio.service.RPCError: Temporal does not answer, or refuses.
    """
    try:
        await client.start_workflow(
            wanted.workflow_type,
            wanted.input,
            id=wanted.workflow_id,
            task_queue=wanted.task_queue,
            id_reuse_policy=(
                WorkflowIDReusePolicy.ALLOW_DUPLICATE
                if wanted.again
                else WorkflowIDReusePolicy.REJECT_DUPLICATE
            ),
            search_attributes=TypedSearchAttributes([SearchAttributePair(_TENANT, tenant_id)]),
            priority=Priority(fairness_key=tenant_id),
            rpc_timeout=RPC_TIMEOUT,
        )
    except WorkflowAlreadyStartedError:
        return


async def send_signal(client: Client, wanted: SendSignal) -> bool:
    """Signal a workflow; False when there is none that runs.

    Raises:
        temporalio.service.RPCError: Temporal does not answer, or refuses.
    """
    handle = client.get_workflow_handle(wanted.workflow_id)
    try:
        await handle.signal(wanted.signal, wanted.payload, rpc_timeout=RPC_TIMEOUT)
    except RPCError as error:
        if error.status == RPCStatusCode.NOT_FOUND:
            return False
        raise
    return True


async def has_closed(client: Client, temporal_id: str) -> bool:
    """Tell whether a workflow has ended. One that is not there (yet) has not.

    Raises:
        temporalio.service.RPCError: Temporal does not answer.
    """
    try:
        found = await client.get_workflow_handle(temporal_id).describe(rpc_timeout=RPC_TIMEOUT)
    except RPCError as error:
        if error.status == RPCStatusCode.NOT_FOUND:
            return False
        raise
    return found.close_time is not None
