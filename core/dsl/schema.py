"""The automation language: what a definition may contain.

A definition is a tree of structured blocks. In any parameter `${…}` stands for a CEL expression;
`Templated` marks the fields that are not strings and may be given so. Fields are checked
strictly: `"1"` is no number.
"""

from typing import Annotated, Any, ClassVar, Final, Literal
from uuid import UUID

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    StringConstraints,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from core.dsl.durations import parse_duration

MAX_DEPTH: Final = 8
"""Blocks within blocks; keeps a step's path within the trace's column."""
MAX_STEPS: Final = 200
MAX_TEXT: Final = 10_000
MAX_TRIGGERS: Final = 20

RENDERED: Final = {"rendered": True}
"""Validation context for parameters whose `${…}` have been replaced: none may be left."""

_TEMPLATE_SCHEMA: Final = {"type": "string", "pattern": r"\$\{.*\}"}


def is_template(value: object) -> bool:
    """Tell whether a value holds a `${…}`."""
    return isinstance(value, str) and "${" in value


class Templated:
    """Marks a field whose value may also be a `${…}`, until it is rendered."""

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Let templates pass unless the context says that they are rendered."""

        def check(value: Any, inner: ValidatorFunctionWrapHandler, info: ValidationInfo) -> Any:
            rendered = info.context is not None and info.context.get("rendered", False)
            return value if is_template(value) and not rendered else inner(value)

        return core_schema.with_info_wrap_validator_function(check, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Say so in the JSON Schema."""
        return {"anyOf": [handler(schema), dict(_TEMPLATE_SCHEMA)]}


def _check_duration(text: str) -> str:
    try:
        parse_duration(text)
    except ValueError as error:
        raise PydanticCustomError("duration", "{why}", {"why": str(error)}) from error
    return text


def _check_identity(text: str) -> str:
    kind, _, name = text.partition(":")
    if kind not in ("role", "user") or not name:
        raise PydanticCustomError(
            "identity", "must be `role:` and a role's name or `user:` and an e-mail address", {}
        )
    return text


def _check_uuid(text: str) -> str:
    try:
        return str(UUID(text))
    except ValueError as error:
        raise PydanticCustomError("uuid", "must be a UUID", {}) from error


# Words of CEL, which cannot be selected as `steps.<id>`.
RESERVED_IDS: Final = frozenset(
    [
        "as",
        "break",
        "const",
        "continue",
        "else",
        "false",
        "for",
        "function",
        "if",
        "import",
        "in",
        "let",
        "loop",
        "namespace",
        "null",
        "package",
        "return",
        "true",
        "var",
        "void",
        "while",
    ]
)


def _check_id(text: str) -> str:
    if text in RESERVED_IDS:
        raise PydanticCustomError("reserved", "`{id}` is a word of the expressions", {"id": text})
    return text


Text = Annotated[str, StringConstraints(max_length=MAX_TEXT)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=255)]
Expression = Annotated[str, StringConstraints(min_length=1, max_length=2000)]
"""A CEL expression without `${}`."""
Identifier = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=50),
    AfterValidator(_check_id),
]
Duration = Annotated[Text, AfterValidator(_check_duration)]
"""ISO 8601, such as `PT5M`."""
DeviceId = Annotated[Annotated[Text, AfterValidator(_check_uuid)], Templated()]
Identity = Annotated[Annotated[Text, AfterValidator(_check_identity)], Templated()]


class Node(BaseModel):
    """Base of everything in a definition."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Comparison(Node):
    """Compares the trigger's metric with a number."""

    op: Literal[">", ">=", "<", "<=", "==", "!="]
    value: float = Field(allow_inf_nan=False)


class ExpressionRule(Node):
    """A CEL expression over `value`, `values`, `device` and `trigger`."""

    expr: Expression


class TelemetryTrigger(Node):
    """Fires when a metric fulfils a condition, once an activation.

    Attributes:
        device_type: Name of a device profile; unset with `device_id` unset means every device.
        for_: How long the condition must hold, by the time stamps of the measurements.
        hysteresis: How far the value must come back before it can fire again.
        cooldown: Least time between two firings for one device.
    """

    type: Literal["telemetry"]
    device_type: Annotated[str, StringConstraints(min_length=1, max_length=100)] | None = None
    device_id: Annotated[UUID, Field(strict=False)] | None = None
    metric: Annotated[str, StringConstraints(min_length=1, max_length=255)]
    when: Comparison | ExpressionRule
    for_: Duration | None = Field(default=None, alias="for")
    hysteresis: float = Field(default=0, ge=0, allow_inf_nan=False)
    cooldown: Duration | None = None


class ManualTrigger(Node):
    """Started by a person or program through the API; needs no declaration to be allowed."""

    type: Literal["manual"]


Trigger = Annotated[TelemetryTrigger | ManualTrigger, Field(discriminator="type")]


class Retry(Node):
    """How an effect that failed is tried again.

    Attributes:
        attempts: Tries in all; 1 means no retry.
        backoff: Wait before the second try; each further one waits twice as long, 5 minutes at
            most.
    """

    attempts: int = Field(default=3, ge=1, le=100)
    backoff: Duration = "PT1S"


class BaseStep(Node):
    """What every step has.

    Attributes:
        id: Unique in the definition; expressions read the step's output as `steps.<id>`.
        name: For people; the id when unset.
        continue_on_error: The run goes on when this step fails; `steps.<id>.error` says why.
        disabled: The step is skipped.
    """

    id: Identifier
    name: Annotated[str, StringConstraints(max_length=255)] | None = None
    continue_on_error: bool = False
    disabled: bool = False


class EffectStep(BaseStep):
    """A step that acts on something outside the run.

    Attributes:
        timeout: The longest it may take with all its tries.
    """

    timeout: Duration | None = None
    retry: Retry | None = None


class Parameters(Node):
    """Base of the `with` of steps."""

    def given(self) -> dict[str, Any]:
        """Return what the definition gives, `${…}` unreplaced."""
        # A template in a number's place is not what the field's serializer expects.
        return self.model_dump(by_alias=True, exclude_unset=True, warnings=False)


class DelayParameters(Parameters):
    """How long to wait."""

    duration: Annotated[Duration, Templated()]


class PredictParameters(Parameters):
    """What to ask the model. `horizon` is in hours; the device is the trigger's by default."""

    device_id: DeviceId | None = None
    prediction_type: Annotated[Literal["failure", "anomaly", "trend"], Templated()]
    horizon: Annotated[float, Field(gt=0, le=100_000), Templated()] | None = None
    confidence_threshold: Annotated[float, Field(ge=0, le=1), Templated()] | None = None


class AlarmParameters(Parameters):
    """Raises or clears the alarm `name` of a device, the trigger's by default."""

    action: Literal["raise", "clear"] = "raise"
    name: Name
    severity: Annotated[Literal["info", "warning", "critical"], Templated()] = "warning"
    message: Text = ""
    device_id: DeviceId | None = None
    details: dict[str, Any] = Field(default_factory=dict)


class DeviceCommandParameters(Parameters):
    """Sends a command and waits for the answer of the device, the trigger's by default."""

    device_id: DeviceId | None = None
    name: Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=r"^[^/+#\x00]+$")]
    payload: dict[str, Any] = Field(default_factory=dict)
    timeout: Annotated[Duration, Templated()] = "PT1M"


class HttpRequestParameters(Parameters):
    """Calls a server. A body that is no string is sent as JSON.

    Attributes:
        expected: Statuses that count as success; any 2xx when unset.
    """

    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"] = "GET"
    url: Annotated[str, StringConstraints(min_length=1, max_length=2000)]
    headers: dict[str, Text] = Field(default_factory=dict)
    body: Any = None
    expected: list[Annotated[int, Field(ge=100, le=599)]] | None = None


class WebhookParameters(Parameters):
    """Delivers an event to an endpoint, given by name or id.

    Attributes:
        wait: Wait until it is delivered or given up; the step fails with the latter.
    """

    webhook: Name
    event_type: Annotated[str, StringConstraints(min_length=1, max_length=100)]
    data: dict[str, Any] = Field(default_factory=dict)
    wait: bool = False


class ApprovalParameters(Parameters):
    """Asks people. `to` holds `role:<name>` and `user:<email>`; one of them decides."""

    to: list[Identity] = Field(min_length=1, max_length=50)
    message: Text = ""
    timeout: Annotated[Duration, Templated()] | None = None
    on_timeout: Literal["fail", "reject", "approve"] = "fail"


class SetParameters(Parameters):
    """Sets variables, read as `vars.<name>`."""

    vars: dict[Identifier, Any] = Field(min_length=1, max_length=50)


class IfStep(BaseStep):
    """Runs `then` when the condition holds, `else` when not."""

    type: Literal["if"]
    condition: Expression
    then: list["Step"] = Field(default_factory=list)
    otherwise: list["Step"] = Field(default_factory=list, alias="else")


class DelayStep(BaseStep):
    """Waits; costs nothing meanwhile."""

    type: Literal["delay"]
    parameters: DelayParameters = Field(alias="with")


class SetStep(BaseStep):
    """Sets variables."""

    type: Literal["set"]
    parameters: SetParameters = Field(alias="with")


class ApprovalStep(BaseStep):
    """Waits for a person's decision; its output has `approved`, `by` and `comment`."""

    type: Literal["approval"]
    parameters: ApprovalParameters = Field(alias="with")


class PredictStep(EffectStep):
    """Asks a model; its output has `probability`, `confidence` and more."""

    type: Literal["predict"]
    parameters: PredictParameters = Field(alias="with")


class AlarmStep(EffectStep):
    """Raises or clears an alarm."""

    type: Literal["alarm"]
    parameters: AlarmParameters = Field(alias="with")


class DeviceCommandStep(EffectStep):
    """Commands a device; its output has `response`."""

    type: Literal["device_command"]
    parameters: DeviceCommandParameters = Field(alias="with")


class HttpRequestStep(EffectStep):
    """Calls a server; its output has `status`, `headers` and `body`."""

    type: Literal["http_request"]
    parameters: HttpRequestParameters = Field(alias="with")


class WebhookStep(EffectStep):
    """Delivers a webhook; its output has `delivery_id`."""

    type: Literal["webhook"]
    parameters: WebhookParameters = Field(alias="with")


ActionStep = (
    DelayStep
    | SetStep
    | ApprovalStep
    | PredictStep
    | AlarmStep
    | DeviceCommandStep
    | HttpRequestStep
    | WebhookStep
)
Step = Annotated[IfStep | ActionStep, Field(discriminator="type")]


class Schedule(Node):
    """Runs at set times, by a cron expression in a time zone."""

    cron: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    timezone: str = "UTC"


class RunSettings(Node):
    """How runs of one automation live together.

    Attributes:
        mode: `parallel`: every event starts a run, `max_runs` at a time, the rest wait their
            turn. `single`: an event is dropped while a run for the same device is going on.
        timeout: The longest a run may take.
    """

    supported_modes: ClassVar[tuple[str, ...]] = ("parallel", "single")

    mode: Literal["single", "restart", "queued", "parallel"] = "parallel"
    max_runs: int | None = Field(default=None, ge=1, le=10_000)
    timeout: Duration = "P30D"


class Definition(Node):
    """One automation. Parse with `Definition.model_validate(document)`."""

    name: Name
    description: Annotated[str, StringConstraints(max_length=2000)] = ""
    triggers: list[Trigger] = Field(default_factory=list, max_length=MAX_TRIGGERS)
    conditions: list[ExpressionRule] = Field(default_factory=list, max_length=50)
    actions: list[Step] = Field(min_length=1, max_length=MAX_STEPS)
    schedule: Schedule | None = None
    settings: RunSettings = Field(default_factory=RunSettings)


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of definitions, for editors and other tools."""
    schema = Definition.model_json_schema(by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
