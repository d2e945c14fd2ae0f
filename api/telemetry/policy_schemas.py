"""How long measurements are kept."""

from datetime import datetime
from typing import Annotated

from pydantic import Field

from api.schemas import Form, View

_Days = Annotated[int, Field(ge=1, le=36_500)] | None


class StoragePolicyForm(Form):
    """Days (UTC) that are kept; null is for ever.

    Attributes:
        raw_days: Measurements as they came.
        minute_days, five_minute_days, hour_days, day_days: Roll-ups of that width.
        seal_after_days: Age at which days are rewritten in compact form; null is never.
    """

    raw_days: _Days = None
    minute_days: _Days = None
    five_minute_days: _Days = None
    hour_days: _Days = None
    day_days: _Days = None
    seal_after_days: Annotated[int, Field(ge=2, le=36_500)] | None = 7


class StoragePolicyView(View):
    """How long measurements are kept.

    Attributes:
        updated_at: Null when nobody has decided yet, and the default holds.
    """

    raw_days: int | None
    minute_days: int | None
    five_minute_days: int | None
    hour_days: int | None
    day_days: int | None
    seal_after_days: int | None
    updated_at: datetime | None
