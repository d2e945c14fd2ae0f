"""What a run does: the steps and their parameters."""

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from core.dsl.fields import (
    DeviceId,
    Duration,
    Expression,
    Identifier,
    Identity,
    Name,
    Node,
    Templated,
    Text,
    Written,
)


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
    name: Annotated[
        str, StringConstraints(min_length=1, max_length=100, pattern=r"^[^/+#\x00]+$"), Written
    ]
    payload: dict[str, Any] = Field(default_factory=dict)
    timeout: Annotated[Duration, Templated()] = "PT1M"


class HttpRequestParameters(Parameters):
    """Calls a server. A body that is no string is sent as JSON.

    Attributes:
        expected: Statuses that count as success; any 2xx when unset.
    """

    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"] = "GET"
    url: Annotated[str, StringConstraints(min_length=1, max_length=2000), Written]
    headers: dict[str, Text] = Field(default_factory=dict)
    body: Any = None
    expected: list[Annotated[int, Field(ge=100, le=599)]] | None = None


class WebhookParameters(Parameters):
    """Delivers an event to an endpoint, given by name or id.

    Attributes:
        wait: Wait until it is delivered or given up; the step fails with the latter.
    """

    webhook: Name
    event_type: Annotated[str, StringConstraints(min_length=1, max_length=100), Written]
    data: dict[str, Any] = Field(default_factory=dict)
    wait: bool = False


class ApprovalParameters(Parameters):
    """Asks people. `to` holds `role:<name>` and `user:<email>`; one of them decides.

    Attributes:
        timeout: How long to wait; unset, as long as the run may take.
        on_reject: `stop` ends the run, as completed; `continue` lets it go on to look at
            `steps.<id>.approved`.
    """

    to: list[Identity] = Field(min_length=1, max_length=50)
    message: Text = ""
    timeout: Annotated[Duration, Templated()] | None = None
    on_timeout: Literal["fail", "reject", "approve"] = "fail"
    on_reject: Literal["stop", "continue"] = "stop"


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
