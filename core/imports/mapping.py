"""What the columns of a file mean."""

from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from core.limits import MAX_METRICS, MAX_NAME

Column = Annotated[str, StringConstraints(min_length=1, max_length=255, pattern=r"^[^\x00]*$")]
Metric = Annotated[str, StringConstraints(min_length=1, max_length=MAX_NAME, pattern=r"^[^\x00]*$")]
DeviceBy = Literal["id", "name", "external_id"]
TimeFormat = Literal["auto", "iso8601", "epoch_s", "epoch_ms", "epoch_us"]


class ImportMapping(BaseModel):
    """What the columns of a file mean.

    Wide: a row has the values of many metrics, a column each. `metrics` gives the columns their
    metrics; without it every column that has no other meaning is the metric of its name. Long:
    a row has one value; `metric_column` holds its metric's name, `value_column` the value.

    Attributes:
        device_column: Holds the device, as `device_by` says.
        device_id: The device of all rows, where no column holds it.
        time_format: `auto`: numbers are epoch milliseconds, text is ISO 8601, which without an
            offset is UTC.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    device_column: Column | None = None
    device_by: DeviceBy = "name"
    device_id: UUID | None = None
    time_column: Column
    time_format: TimeFormat = "auto"
    metrics: Annotated[dict[Column, Metric], Field(min_length=1, max_length=MAX_METRICS)] | None = (
        None
    )
    metric_column: Column | None = None
    value_column: Column | None = None

    @property
    def long(self) -> bool:
        """Whether a row has one value."""
        return self.metric_column is not None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.device_column is None) == (self.device_id is None):
            raise ValueError("give either `device_column` or `device_id`")
        if (self.metric_column is None) != (self.value_column is None):
            raise ValueError("`metric_column` and `value_column` belong together")
        if self.long and self.metrics is not None:
            raise ValueError("`metrics` is for the wide form, `metric_column` for the long one")
        if self.metrics is not None and len(set(self.metrics.values())) < len(self.metrics):
            raise ValueError("two columns have the same metric")
        return self
