"""Takes one device out of service."""

from datetime import timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import FailureError

with workflow.unsafe.imports_passed_through():
    from core.temporal.activity_names import ProvisioningActivity
    from core.temporal.contracts import DecommissioningInput
    from core.temporal.names import WorkflowType, provisioning_id


@workflow.defn(name=WorkflowType.DEVICE_DECOMMISSIONING)
class DeviceDecommissioning:
    """The database first: from then on a provisioning under way can give the device nothing."""

    @workflow.run
    async def run(self, call: DecommissioningInput) -> None:
        """Revoke the credentials, drop the connection, end a provisioning that is under way."""
        await workflow.execute_activity(
            ProvisioningActivity.DECOMMISSION,
            call,
            start_to_close_timeout=timedelta(seconds=60),
            retry_policy=RetryPolicy(
                initial_interval=timedelta(milliseconds=500), maximum_interval=timedelta(seconds=30)
            ),
        )
        provisioning = provisioning_id(call.tenant_id, call.device_id)
        try:
            await workflow.get_external_workflow_handle(provisioning).cancel()
        except FailureError:
            workflow.logger.debug("no provisioning of %s is under way", call.device_id)
