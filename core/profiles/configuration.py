"""The form of a profile's configuration, as far as measurements go: `metrics` and `derived`.

The API checks it when a profile is stored; the broker reads it again when it compiles its rules.
Other members (`desired`, `prediction`) are kept as they are.
"""

import math
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from core.dsl.expressions import Expression, ExpressionError, compile_expression
from core.limits import MAX_METRICS, MAX_NAME
from core.profiles.dialects import GatewayRule, Shorthand, SparkplugRule
from core.profiles.units import UNITS, Conversion, conversion

MAX_DERIVED: Final = 50
"""Each costs microseconds at every message."""

DERIVED_VARIABLES: Final = frozenset({"values", "device"})
# Types, as in `type(x) == double`, are identifiers for CEL too.
_TYPES: Final = frozenset(("bool", "bytes", "double", "int", "list", "map", "string", "uint"))
_SMALLEST: Final = 1e-6  # seconds; time is kept in microseconds
_LONGEST: Final = 366 * 86_400.0

MetricType = Literal["number", "integer", "boolean"]


def _number(value: object) -> object:
    # pydantic would take true and "1" as numbers.
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise PydanticCustomError("number", "must be a number", {})
    return value


Number = Annotated[float, BeforeValidator(_number), Field(allow_inf_nan=False)]
Positive = Annotated[Number, Field(gt=0)]


def _check_name(name: str) -> str:
    if not name or len(name) > MAX_NAME or "\0" in name:
        raise ValueError(f"a metric's name has 1 to {MAX_NAME} characters")
    if name == "ts":
        raise ValueError("no metric can be named `ts`, which is the message's time")
    return name


def _check_derived(text: str) -> str:
    try:
        expression = compile_expression(text)
    except ExpressionError as error:
        raise ValueError(error.detail) from error
    for name in sorted(expression.variables - DERIVED_VARIABLES - _TYPES):
        raise ValueError(
            f"there is no variable `{name}`; a metric is `values.{name}`, and there is `device`"
        )
    return text


Named = AfterValidator(lambda metrics: {_check_name(name): rule for name, rule in metrics.items()})


class ConversionRule(BaseModel):
    """How a device's values become values in the metric's unit.

    Either `from`, a unit of the same kind as the metric's, or `factor` and `offset`, as in
    `factor * value + offset`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: Annotated[str, StringConstraints(min_length=1, max_length=20)] | None = Field(
        default=None, alias="from"
    )
    factor: Number | None = None
    offset: Number | None = None

    @field_validator("source")
    @classmethod
    def _known(cls, unit: str | None) -> str | None:
        if unit is not None and unit not in UNITS:
            raise ValueError(f"the unit `{unit}` is not known; give `factor` and `offset` instead")
        return unit

    @field_validator("factor")
    @classmethod
    def _not_nothing(cls, factor: float | None) -> float | None:
        if factor == 0:
            raise ValueError("would make every value the same")
        return factor

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        numbers = self.factor is not None or self.offset is not None
        if numbers == (self.source is not None):
            raise ValueError("give either `from`, or `factor` and `offset`")
        return self


class MetricRule(BaseModel):
    """What is expected of one metric.

    Attributes:
        unit: Of the stored values.
        type: `integer` and `boolean` (0 or 1) bind the values of it.
        range: Least and greatest value, in `unit`; both belong to it.
        max_rate: Greatest change a second, in `unit`.
        interval: Seconds expected between two messages.
        convert: From the device's values to those stored.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    unit: Annotated[str, StringConstraints(min_length=1, max_length=20)] | None = None
    type: MetricType = "number"
    range: Annotated[list[Number], Field(min_length=2, max_length=2)] | None = None
    max_rate: Positive | None = None
    interval: Annotated[Number, Field(ge=_SMALLEST, le=_LONGEST)] | None = None
    convert: ConversionRule | None = None

    @field_validator("range")
    @classmethod
    def _ordered(cls, bounds: list[float] | None) -> list[float] | None:
        if bounds is not None and bounds[0] >= bounds[1]:
            raise ValueError("the least value must be below the greatest")
        return bounds

    @field_validator("convert")
    @classmethod
    def _convertible(
        cls, rule: ConversionRule | None, info: ValidationInfo
    ) -> ConversionRule | None:
        if rule is not None and rule.source is not None and "unit" in info.data:
            unit = info.data["unit"]
            if unit is None:
                raise ValueError("the metric needs a `unit` to convert to")
            conversion(rule.source, unit)
        return rule

    @property
    def conversion(self) -> Conversion | None:
        """Factor and offset; None when values are stored as they come."""
        if self.convert is None:
            return None
        if self.convert.source is not None and self.unit is not None:
            found = conversion(self.convert.source, self.unit)
        else:
            factor = 1.0 if self.convert.factor is None else self.convert.factor
            found = (factor, self.convert.offset or 0.0)
        return None if found == (1.0, 0.0) else found


class ProfileConfiguration(BaseModel):
    """A profile's configuration.

    Attributes:
        metrics: What is expected of metrics, by name.
        derived: Further metrics: name → CEL expression over `values` and `device`.
        gateway: Its devices may speak for others, by ThingsBoard's gateway API.
        sparkplug: Its devices are edge nodes of Sparkplug B.
    """

    model_config = ConfigDict(extra="allow")

    metrics: Annotated[dict[str, MetricRule], Named, Field(max_length=MAX_METRICS)] = Field(
        default_factory=dict
    )
    derived: Annotated[
        dict[str, Annotated[str, StringConstraints(min_length=1), AfterValidator(_check_derived)]],
        Named,
        Field(max_length=MAX_DERIVED),
    ] = Field(default_factory=dict)

    gateway: Annotated[GatewayRule | None, Shorthand] = None
    sparkplug: Annotated[SparkplugRule | None, Shorthand] = None

    def document(self) -> dict[str, Any]:
        """Return it as it was given."""
        return self.model_dump(mode="json", by_alias=True, exclude_unset=True)


class Derived:
    """A derived metric that is ready to be computed.

    Attributes:
        name: Of the metric.
        needs: Metrics it names as `values.<metric>`: it belongs to messages that have them all.
    """

    __slots__ = ("_expression", "name", "needs")

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self._expression: Expression = compile_expression(text)
        self.needs = frozenset(
            reference.name
            for reference in self._expression.references
            if reference.root == "values"
        )

    def compute(self, context: dict[str, Any]) -> float:
        """Return the value for a message.

        Raises:
            ExpressionError: It fails, or gives neither a finite number nor true or false.
        """
        value = self._expression.evaluate(context)
        if isinstance(value, (bool, int, float)):
            try:
                number = float(value)
            except OverflowError:
                number = math.inf
            if math.isfinite(number):
                return number
        raise ExpressionError(self._expression.source, "gives no finite number", value=value)
