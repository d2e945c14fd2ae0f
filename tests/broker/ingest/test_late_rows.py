"""Which hours are noted so that roll-ups are made again."""

from types import SimpleNamespace
from typing import Any, cast
from uuid import uuid4

from broker.ingest.batching import Part
from broker.ingest.flusher import stale_hours
from broker.ingest.intake import UsualWindow
from core.db.repositories.rollups import LATE_AFTER

HOUR = 3_600_000_000
DAY = 24 * HOUR


def _part(*times: int) -> Part:
    part = Part(cast(Any, SimpleNamespace(id=uuid4(), tenant_id=uuid4())), None)
    part.live = [(at, {}, cast(Any, None), None) for at in times]
    return part


def test_a_part_within_the_usual_window_notes_nothing() -> None:
    assert stale_hours([_part(5 * HOUR), Part(None, None)], everything=False) == set()


def test_only_the_hours_outside_it_are_noted() -> None:
    part = _part(5 * HOUR, 9 * HOUR)
    part.hours = {5}
    assert {row.hour for row in stale_hours([part], everything=False)} == {5}


def test_all_hours_are_noted_of_a_commit_that_took_too_long() -> None:
    part = _part(5 * HOUR + 7, 5 * HOUR + 9, 9 * HOUR)
    part.hours = {3}
    assert part.device is not None
    noted = stale_hours([part], everything=True)
    assert {row.hour for row in noted} == {3, 5, 9}
    assert {row.device_id for row in noted} == {part.device.id}


def test_the_window_begins_where_rows_are_late_but_not_before_the_prepared_days() -> None:
    window = UsualWindow()
    assert not window.start <= 10 * DAY < window.end
    window.prepared(10, 11)
    window.move(10 * DAY + 5)
    assert (window.start, window.end) == (10 * DAY, 12 * DAY)
    window.move(10 * DAY + HOUR)
    assert window.start == 10 * DAY + HOUR - LATE_AFTER.total_seconds() * 1_000_000
