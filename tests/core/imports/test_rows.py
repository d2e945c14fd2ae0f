"""A row is a measurement or says why it is none; never anything else."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from core.errors import InvalidInputError
from core.imports.files import Row
from core.imports.mapping import ImportMapping
from core.imports.rows import Measured, Refusal, RowReader

COLUMNS = ["device", "ts", "a", "b"]
AT = datetime(2025, 3, 1, 10, tzinfo=UTC)
MICROSECONDS = int(AT.timestamp()) * 1_000_000
NOW = MICROSECONDS + 1_000_000


def read(cells: list[Any] | None, columns: list[str] = COLUMNS, **mapping: Any) -> Any:
    wanted = {"device_column": "device", "time_column": "ts"} | mapping
    return RowReader(ImportMapping.model_validate(wanted), columns).read(Row(7, cells), NOW)


def test_a_wide_row_has_every_column_that_means_nothing_else_as_a_metric() -> None:
    one = read(["pump", "2025-03-01T10:00:00Z", "1.5", " true "])
    assert one == Measured(
        Row(7, ["pump", "2025-03-01T10:00:00Z", "1.5", " true "]),
        "pump",
        MICROSECONDS,
        ("a", "b"),
        [1.5, 1.0],
    )
    one = read(["pump", str(MICROSECONDS // 1000), "", "NaN"], metrics={"a": "x"}, device_by="name")
    assert isinstance(one, Refusal)
    assert one.code == "empty"
    one = read(["pump", AT, None, 3], metrics={"b": "x"})
    assert (one.names, one.values) == (("x",), [3.0])


def test_a_long_row_has_one_value_of_the_metric_it_names() -> None:
    columns = ["ts", "metric", "value", "note"]
    mapping: dict[str, Any] = {
        "device_column": None,
        "device_id": uuid4(),
        "metric_column": "metric",
        "value_column": "value",
    }
    one = read([AT, "flow", "2", "x"], columns, **mapping)
    assert (one.device, one.names, one.values) == (None, ("flow",), [2.0])
    assert read([AT, "ts", "2", "x"], columns, **mapping).code == "invalid_name"
    assert read([AT, "", "2", "x"], columns, **mapping).column == "metric"


@pytest.mark.parametrize(
    ("cell", "form", "seconds"),
    [
        ("2025-03-01T12:00:00+02:00", "auto", 0),
        ("2025-03-01 10:00:00.5", "iso8601", 0.5),
        ("1740823200", "epoch_s", 0),
        ("1740823200.25", "epoch_s", 0.25),
        (1740823200000, "auto", 0),
        ("1740823200000", "auto", 0),
        ("1740823200000", "epoch_ms", 0),
        ("1740823200000000", "epoch_us", 0),
        (datetime(2025, 3, 1, 10), "auto", 0),  # noqa: DTZ001  (as Parquet may have it)
        (datetime(2025, 3, 1, 11, tzinfo=timezone(timedelta(hours=1))), "auto", 0),
        # 13 digits that would also be a date of the year 1712.
        ("1712013100000", "auto", 1712013100 - 1740823200),
    ],
)
def test_times_of_every_form_are_read(cell: Any, form: str, seconds: float) -> None:
    one = read(["pump", cell, 1, 1], time_format=form)
    assert one.time == MICROSECONDS + int(seconds * 1_000_000)


@pytest.mark.parametrize(
    ("cells", "column", "code"),
    [
        (None, "", "unreadable"),
        (["pump", AT, "1"], "", "wrong_columns"),
        (["", AT, "1", "1"], "device", "unknown_device"),
        ([None, AT, "1", "1"], "device", "unknown_device"),
        (["pump", "yesterday", "1", "1"], "ts", "invalid_time"),
        (["pump", None, "1", "1"], "ts", "invalid_time"),
        (["pump", True, "1", "1"], "ts", "invalid_time"),
        (["pump", "1740823200", "1", "1"], "ts", "time_out_of_range"),
        (["pump", "1" * 30, "1", "1"], "ts", "time_out_of_range"),
        (["pump", "1e400", "1", "1"], "ts", "invalid_time"),
        (["pump", AT, "warm", "1"], "a", "unsupported_type"),
        (["pump", AT, "1", [1]], "b", "unsupported_type"),
        (["pump", AT, "1", "1e999"], "b", "out_of_range"),
    ],
)
def test_a_row_at_fault_says_where_and_why(cells: list[Any] | None, column: str, code: str) -> None:
    one = read(cells)
    assert isinstance(one, Refusal)
    assert (one.row, one.column, one.code) == (7, column, code)
    assert one.message


def test_a_mapping_that_does_not_fit_names_every_column_that_is_missing() -> None:
    with pytest.raises(InvalidInputError) as caught:
        read([], time_column="when", metrics={"a/b": "x", "a": "y"})
    pointers = [error.pointer for error in caught.value.errors]
    assert pointers == ["/mapping/time_column", "/mapping/metrics/a~1b"]
    with pytest.raises(InvalidInputError):
        read([], ["device", "ts"])


@pytest.mark.parametrize(
    "mapping",
    [
        {"time_column": "ts"},
        {"time_column": "ts", "device_column": "d", "device_id": str(uuid4())},
        {"time_column": "ts", "device_column": "d", "metric_column": "m"},
        {"time_column": "ts", "device_column": "d", "metrics": {}},
        {"time_column": "ts", "device_column": "d", "metrics": {"a": "x", "b": "x"}},
        {
            "time_column": "ts",
            "device_column": "d",
            "metrics": {"a": "x"},
            "metric_column": "m",
            "value_column": "v",
        },
    ],
)
def test_a_mapping_that_contradicts_itself_is_refused(mapping: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ImportMapping.model_validate(mapping)


_cell = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.datetimes()


@given(
    st.lists(_cell, min_size=3, max_size=5),
    st.sampled_from(["auto", "iso8601", "epoch_s", "epoch_ms", "epoch_us"]),
    st.sampled_from(["name", "id", "external_id"]),
)
def test_whatever_is_in_a_row_it_is_a_measurement_or_a_refusal(
    cells: list[Any], form: str, by: str
) -> None:
    one = read(cells, time_format=form, device_by=by)
    if isinstance(one, Refusal):
        assert one.code
        assert not any("\0" in cell for cell in one.cells)
    else:
        assert len(one.names) == len(one.values) == 2
        assert any(value is not None for value in one.values)
