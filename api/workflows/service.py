"""Automations and their versions."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

from api.deps import Page
from api.schemas import Pagination
from api.work import Work
from api.workflows.schemas import (
    SavedWorkflow,
    ValidationView,
    VersionList,
    VersionView,
    WorkflowList,
    WorkflowSummary,
    WorkflowView,
)
from core import bus
from core.db.repositories import devices, workflows
from core.db.repositories.workflows import WorkflowFilter
from core.db.tables import Workflow
from core.dsl.findings import nearest
from core.dsl.validation import Finding, Validation, validate
from core.errors import ConflictError, FieldError, InvalidInputError, NotFoundError

EXPECTED = "expected_version"


async def page(work: Work, wanted: WorkflowFilter, place: Page) -> WorkflowList:
    """Return a page of automations."""
    rows, total = await workflows.page(work.session, wanted, offset=place.offset, limit=place.limit)
    return WorkflowList(
        workflows=[WorkflowSummary.of(row) for row in rows],
        pagination=Pagination.of(place, total),
    )


async def check(work: Work, document: dict[str, Any]) -> Validation:
    """Return everything that is wrong or doubtful with a definition, names of profiles included."""
    validation = validate(document)
    return replace(
        validation,
        warnings=(*validation.warnings, *await _unknown_profiles(work, document)),
    )


async def _unknown_profiles(work: Work, document: dict[str, Any]) -> list[Finding]:
    triggers = document.get("triggers")
    named = {
        index: trigger["device_type"]
        for index, trigger in enumerate(triggers if isinstance(triggers, list) else ())
        if isinstance(trigger, Mapping) and isinstance(trigger.get("device_type"), str)
    }
    if not named:
        return []
    known = await devices.profile_names(work.session)
    return [
        Finding(
            f"/triggers/{index}/device_type",
            f"there is no device profile {name!r}",
            nearest(name, known),
        )
        for index, name in named.items()
        if name not in known
    ]


async def _valid(work: Work, document: dict[str, Any]) -> Validation:
    validation = await check(work, document)
    if not validation.valid:
        raise InvalidInputError(
            "The definition is not valid; `errors` says where.",
            errors=tuple(FieldError(f.pointer, f.message, f.hint) for f in validation.errors),
        )
    return validation


async def create(work: Work, document: dict[str, Any]) -> SavedWorkflow:
    """Create an automation with its first version.

    Raises:
        InvalidInputError: The definition is not valid.
        ConflictError: The name is taken.
    """
    validation = await _valid(work, document)
    if await workflows.name_in_use(work.session, document["name"]):
        raise ConflictError(f"There is an automation {document['name']!r} already.")
    workflow = Workflow(
        id=uuid4(),
        tenant_id=work.tenant_id,
        name=document["name"],
        description=document.get("description", ""),
        created_by=work.caller.user_id,
    )
    work.session.add(workflow)
    await work.session.flush()
    return await _publish(work, workflow, document, validation, "workflow.created")


async def get(work: Work, workflow_id: UUID) -> WorkflowView:
    """Return an automation with its current definition.

    Raises:
        NotFoundError: There is none.
    """
    workflow = await found(work, workflow_id)
    version = await workflows.version(work.session, workflow_id, workflow.current_version)
    return WorkflowView.with_definition(workflow, {} if version is None else version.definition)


async def update(work: Work, workflow_id: UUID, body: dict[str, Any]) -> SavedWorkflow:
    """Publish a new version of an automation.

    Args:
        work: The unit of work.
        workflow_id: The automation.
        body: The definition, and beside its members `expected_version`: the version that it was
            made from, so that nobody's change is overwritten unseen.

    Raises:
        NotFoundError: There is no such automation.
        InvalidInputError: The definition is not valid, or the expected version is missing.
        ConflictError: Somebody published a version meanwhile, or the name is taken.
    """
    document = dict(body)
    expected = document.pop(EXPECTED, None)
    if not isinstance(expected, int) or isinstance(expected, bool):
        raise InvalidInputError(
            "The expected version is missing.",
            errors=(
                FieldError(
                    f"/{EXPECTED}",
                    "must be the number of the version that this change was made from",
                    "Take `version` from the automation as you read it.",
                ),
            ),
        )
    workflow = await found(work, workflow_id, lock=True)
    if workflow.current_version != expected:
        raise ConflictError(
            f"The automation has version {workflow.current_version} now, not {expected}; "
            "read it again and repeat the change."
        )
    validation = await _valid(work, document)
    if await workflows.name_in_use(work.session, document["name"], other_than=workflow_id):
        raise ConflictError(f"There is an automation {document['name']!r} already.")
    workflow.name = document["name"]
    workflow.description = document.get("description", "")
    return await _publish(work, workflow, document, validation, "workflow.updated")


async def _publish(
    work: Work,
    workflow: Workflow,
    document: dict[str, Any],
    validation: Validation,
    action: str,
) -> SavedWorkflow:
    version = await workflows.publish(work.session, workflow, document, work.caller.user_id)
    work.audit(action, "workflow", workflow.id, name=workflow.name, version=version.version)
    _triggers_changed(work)
    await work.session.refresh(workflow)
    return SavedWorkflow(
        workflow=WorkflowView.with_definition(workflow, document),
        validation=ValidationView.of(validation),
    )


async def set_enabled(work: Work, workflow_id: UUID, *, enabled: bool) -> WorkflowSummary:
    """Let triggers start an automation, or not.

    Raises:
        NotFoundError: There is none.
    """
    workflow = await found(work, workflow_id, lock=True)
    if workflow.enabled != enabled:
        workflow.enabled = enabled
        work.audit("workflow.enabled" if enabled else "workflow.disabled", "workflow", workflow_id)
        _triggers_changed(work)
        await work.session.flush()
    return WorkflowSummary.of(workflow)


async def delete(work: Work, workflow_id: UUID) -> None:
    """Delete an automation with its versions and the history of its runs.

    Raises:
        NotFoundError: There is none.
        ConflictError: A run of it has not ended.
    """
    workflow = await found(work, workflow_id, lock=True)
    if await workflows.has_active_runs(work.session, workflow_id):
        raise ConflictError("Runs of this automation have not ended; cancel them first.")
    await work.session.delete(workflow)
    work.audit("workflow.deleted", "workflow", workflow_id, name=workflow.name)
    _triggers_changed(work)


async def versions(work: Work, workflow_id: UUID, place: Page) -> VersionList:
    """Return a page of an automation's versions.

    Raises:
        NotFoundError: There is no such automation.
    """
    await found(work, workflow_id)
    rows, total = await workflows.versions(
        work.session, workflow_id, offset=place.offset, limit=place.limit
    )
    return VersionList(
        versions=[VersionView.model_validate(row) for row in rows],
        pagination=Pagination.of(place, total),
    )


async def version(work: Work, workflow_id: UUID, number: int) -> VersionView:
    """Return one version.

    Raises:
        NotFoundError: There is none.
    """
    row = await workflows.version(work.session, workflow_id, number)
    if row is None:
        raise NotFoundError("There is no such version.")
    return VersionView.model_validate(row)


async def found(work: Work, workflow_id: UUID, *, lock: bool = False) -> Workflow:
    """Return an automation of this tenant.

    Raises:
        NotFoundError: There is none.
    """
    workflow = await workflows.get(work.session, workflow_id, lock=lock)
    if workflow is None:
        raise NotFoundError("There is no such automation.")
    return workflow


def _triggers_changed(work: Work) -> None:
    work.notify(bus.TRIGGERS_CHANGED, str(work.tenant_id))
