"""Starts the run of one outbox row, by the mode of its automation."""

from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from pydantic import ValidationError
from sqlalchemy.ext.asyncio import AsyncSession
from temporalio.client import Client

from core.db.repositories import automation as repository
from core.db.repositories.automation import NewRun
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


_LOOKED_AT: Final = 10
"""Oldest runs that are looked up in Temporal when no slot is free."""


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
        async with self._database.transaction(tenant_id) as session:
            prepared = await repository.prepare_run(session, tenant_id, run)
            status = prepared.status
            if status is None:
                settings = _settings(prepared.definition)
                if not await self._admit(session, tenant_id, run, settings):
                    status = "cancelled"
        if status in ("completed", "failed", "cancelled"):
            return
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

    async def _admit(
        self, session: AsyncSession, tenant_id: UUID, run: NewRun, settings: RunSettings
    ) -> bool:
        """Tell whether a new run may start by the mode; one that is dropped is ended here.

        Raises:
            NoSlotError: It may start later; the transaction must be rolled back.
        """
        single = settings.mode == "single"
        most = 1 if single else settings.max_runs
        if most is None:
            return True
        await repository.lock_automation(session, tenant_id, run.workflow_id)
        others = await repository.active_runs(
            session, tenant_id, run, same_device=single, most=most
        )
        if len(others) < most:
            return True
        for other in others[:_LOOKED_AT]:
            if await self._end_if_gone(session, tenant_id, *other):
                return True
        if not single:
            raise NoSlotError
        await repository.end_run(
            session,
            tenant_id,
            run.id,
            "cancelled",
            {"type": ALREADY_RUNNING, "message": f"the run {others[0][0]} was going on"},
        )
        return False

    async def _end_if_gone(
        self, session: AsyncSession, tenant_id: UUID, execution_id: UUID, temporal_id: str
    ) -> bool:
        """End a run that an operator terminated: such a run could not record it itself."""
        closed = await launch.has_closed(self._client, temporal_id)
        if closed:
            await repository.end_run(
                session,
                tenant_id,
                execution_id,
                "failed",
                {"type": "Terminated", "message": "the run was ended from outside"},
            )
        return closed


def _new_run(tenant_id: UUID, wanted: StartRun) -> NewRun:
    workflow_id = UUID(wanted.workflow_id)
    temporal_id = names.run_id(tenant_id, workflow_id, wanted.event_key)
    return NewRun(
        id=names.stable_uuid(temporal_id),
        workflow_id=workflow_id,
        version=wanted.version,
        event_key=wanted.event_key,
        temporal_id=temporal_id,
        trigger=wanted.trigger,
        device_id=UUID(wanted.device_id) if wanted.device_id else None,
        dry_run=wanted.dry_run,
    )


def _settings(definition: dict[str, Any]) -> RunSettings:
    try:
        return RunSettings.model_validate(definition.get("settings", {}))
    except ValidationError as error:
        raise InvalidInputError(f"the settings of the automation are not valid: {error}") from error
