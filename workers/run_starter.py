"""Starts the run of one outbox row, by the mode of its automation."""

from datetime import timedelta
from typing import Final
from uuid import UUID

from pydantic import ValidationError
from temporalio.client import Client

from core.db.repositories import automation as repository
from core.db.session import Database
from core.dsl.schema import RunSettings
from core.errors import InvalidInputError
from core.temporal import launch, names
from core.temporal.contracts import RunInput
from core.temporal.outbox import StartRun

ALREADY_RUNNING: Final = "AlreadyRunning"
"""Type of the error of a run that was dropped because one was going on (mode `single`)."""
WAITING_FOR_A_SLOT: Final = timedelta(seconds=5)
"""The longest that a run waits between looks whether it may start (`max_runs`)."""


class NoSlotError(Exception):
    """So many runs are going on as the automation allows; this one must wait."""


class RunStarter:
    """Makes executions and starts their workflows; doing so again changes nothing."""

    def __init__(self, database: Database, client: Client) -> None:
        self._database = database
        self._client = client

    async def start(self, tenant_id: UUID, wanted: StartRun) -> None:
        """Start a run.

        Raises:
            NotFoundError: There is no such version any more.
            InvalidInputError: Its settings cannot be read.
            NoSlotError: It must wait.
            temporalio.service.RPCError: Temporal does not answer.
        """
        run = _new_run(tenant_id, wanted)
        # The version's settings are looked at before the automation is locked: most need no lock.
        async with self._database.transaction(tenant_id) as session:
            prepared = await repository.prepare_run(session, tenant_id, run)
            settings = _settings(prepared.definition)
            limited = settings.mode == "single" or settings.max_runs is not None
            if limited:
                await repository.lock_automation(session, tenant_id, run.workflow_id)
                if not await self._admit(tenant_id, run, settings):
                    await session.rollback()
                    raise NoSlotError
        await launch.start_run(
            self._client,
            run.temporal_id,
            RunInput(
                tenant_id=tenant_id,
                workflow_id=run.workflow_id,
                execution_id=run.id,
                version=run.version,
                event_key=run.event_key,
                definition=prepared.definition,
                trigger=run.trigger,
                device=prepared.device,
                dry_run=run.dry_run,
            ),
        )
