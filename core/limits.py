"""Bounds of measurements, the same however they come."""

from typing import Final

MAX_METRICS: Final = 1000
"""Metrics of one message."""
MAX_NAME: Final = 100
"""Characters of a metric's name."""
MAX_LISTS: Final = 10_000
"""Metric lists of one tenant; a device that invents names would otherwise fill the database."""
OLDEST: Final = 946_684_800_000_000
"""2000-01-01 in microseconds; an earlier time is a clock that was never set."""
FUTURE: Final = 86_400_000_000
"""How far ahead a device's clock may be, in microseconds."""
