"""Forms and answers of automations."""

from datetime import datetime
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import Field, StringConstraints

from api.schemas import Form, JsonObject, Pagination, Text, View
from core.db.tables import Workflow, WorkflowExecution, WorkflowStepRun
from core.dsl.validation import Finding, Validation

ExecutionStatus = Literal["pending", "running", "waiting", "completed", "failed", "cancelled"]


class FindingView(View):
    """One fault or doubt in one place of a definition."""

    pointer: str
    message: str
    hint: str | None = None

    @classmethod
    def of(cls, finding: Finding) -> Self:
        """Describe a finding."""
        return cls(pointer=finding.pointer, message=finding.message, hint=finding.hint)


class ValidationDetails(View):
    """The findings with their places."""

    errors: list[FindingView]
    warnings: list[FindingView]


class ValidationView(View):
    """What checking a definition came to."""

    valid: bool
    warnings: list[str]
    errors: list[str]
    details: ValidationDetails

    @classmethod
    def of(cls, validation: Validation) -> Self:
        """Describe a validation."""
        return cls(
            valid=validation.valid,
            warnings=[_sentence(finding) for finding in validation.warnings],
            errors=[_sentence(finding) for finding in validation.errors],
            details=ValidationDetails(
                errors=[FindingView.of(finding) for finding in validation.errors],
                warnings=[FindingView.of(finding) for finding in validation.warnings],
            ),
        )


def _sentence(finding: Finding) -> str:
    return f"{finding.pointer or '/'}: {finding.message}"


class WorkflowSummary(View):
    """An automation without its definition; `version` is the one that triggers start."""

    id: UUID
    name: str
    description: str
    enabled: bool
    version: int | None
    created_by: UUID | None
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, workflow: Workflow) -> Self:
        """Describe a stored automation."""
        return cls.model_validate({**workflow.model_dump(), "version": workflow.current_version})


class WorkflowView(WorkflowSummary):
    """An automation with its current definition."""

    definition: dict[str, Any]

    @classmethod
    def with_definition(cls, workflow: Workflow, definition: dict[str, Any]) -> Self:
        """Describe a stored automation."""
        return cls.model_validate(
            {
                **workflow.model_dump(),
                "version": workflow.current_version,
                "definition": definition,
            }
        )


class WorkflowList(View):
    """A page of automations."""

    workflows: list[WorkflowSummary]
    pagination: Pagination


class SavedWorkflow(View):
    """An automation that was just stored; its validation may hold warnings."""

    workflow: WorkflowView
    validation: ValidationView


class VersionView(View):
    """One immutable version of an automation."""

    version: int
    definition: dict[str, Any]
    created_by: UUID | None
    created_at: datetime


class VersionList(View):
    """A page of versions."""

    versions: list[VersionView]
    pagination: Pagination


class ExecuteForm(Form):
    """Starts a run by hand.

    Attributes:
        input_data: What expressions see as `trigger.input`.
        dry_run: Effects on devices and other servers are left out.
        device_id: What expressions see as `device`.
    """

    input_data: JsonObject = Field(default_factory=dict)
    dry_run: bool = False
    device_id: UUID | None = None


class StartedExecution(View):
    """A run that was asked for; it starts within moments."""

    execution_id: UUID
    status: ExecutionStatus
    started_at: datetime
    completed_at: datetime | None = None
    results: dict[str, Any] | None = None
    errors: list[str] = Field(default_factory=list)


class StepView(View):
    """The trace of one step."""

    path: str
    step_type: str
    status: str
    input: dict[str, Any] | None
    output: dict[str, Any] | None
    error: dict[str, Any] | None
    attempt: int
    started_at: datetime | None
    completed_at: datetime | None

    @classmethod
    def of(cls, step: WorkflowStepRun) -> Self:
        """Describe a stored step."""
        return cls.model_validate(step)


class ExecutionSummary(View):
    """A run without its trace."""

    execution_id: UUID
    workflow_id: UUID
    version: int
    status: ExecutionStatus
    dry_run: bool
    device_id: UUID | None
    trigger: dict[str, Any]
    started_at: datetime
    completed_at: datetime | None
    results: dict[str, Any] | None
    errors: list[str]
    error: dict[str, Any] | None

    @classmethod
    def of(cls, execution: WorkflowExecution, **more: Any) -> Self:
        """Describe a stored run."""
        error = execution.error
        message = None if error is None else str(error.get("message", error))
        return cls.model_validate(
            {
                **execution.model_dump(),
                "execution_id": execution.id,
                "errors": [] if message is None else [message],
                **more,
            }
        )


class ExecutionView(ExecutionSummary):
    """A run with its trace.

    Attributes:
        live: How it stands at this moment, by the workflow itself; None once it has ended, or
            when it cannot be asked now.
    """

    steps: list[StepView]
    live: dict[str, Any] | None = None


class ExecutionList(View):
    """A page of runs."""

    executions: list[ExecutionSummary]
    pagination: Pagination


class DecisionForm(Form):
    """A person's answer to an approval step."""

    step: Annotated[Text, StringConstraints(min_length=1, max_length=500)]
    approved: bool = True
    comment: Annotated[Text, StringConstraints(max_length=2000)] = ""


class RejectionForm(Form):
    """A person's refusal."""

    step: Annotated[Text, StringConstraints(min_length=1, max_length=500)]
    comment: Annotated[Text, StringConstraints(max_length=2000)] = ""


class DecisionView(View):
    """The decision is taken and will be acted on."""

    execution_id: UUID
    step: str
    approved: bool
