"""Files are read in batches, from any row on, and rows keep their numbers."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from core.errors import InvalidInputError
from core.imports.files import Row, batches, columns_of

AT = datetime(2025, 3, 1, 10, tzinfo=UTC)


def rows(path: Path, kind: Literal["csv", "parquet"], after: int = 0, size: int = 2) -> list[Row]:
    return [row for batch in batches(path, kind, after=after, size=size) for row in batch.rows]


def csv_file(folder: Path, text: str | bytes) -> Path:
    path = folder / "file.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_csv_is_read_with_its_own_delimiter(tmp_path: Path, delimiter: str) -> None:
    text = '\ufeffa,b\n1,2\n\n"x, y",4\r\n5,6'
    if delimiter != ",":
        text = text.replace("x, y", "x y").replace(",", delimiter)
    path = csv_file(tmp_path, text)
    assert columns_of(path, "csv") == ["a", "b"]
    middle = "x, y" if delimiter == "," else "x y"
    expected = [Row(1, ["1", "2"]), Row(2, [middle, "4"]), Row(3, ["5", "6"])]
    assert rows(path, "csv") == expected
    for after in range(4):
        assert rows(path, "csv", after) == expected[after:]


def test_rows_that_cannot_be_read_keep_their_place(tmp_path: Path) -> None:
    huge = "x" * 200_000
    path = csv_file(tmp_path, f"a,b\n1,2\n{huge},3\n4\n5,6,7\n8,9\n")
    found = rows(path, "csv")
    assert [row.number for row in found] == [1, 2, 3, 4, 5]
    assert [None if row.cells is None else len(row.cells) for row in found] == [2, None, 1, 3, 2]


def test_bytes_that_are_no_text_are_read_as_such(tmp_path: Path) -> None:
    path = csv_file(tmp_path, b"a,b\n\xff\xfe,2\n")
    assert rows(path, "csv") == [Row(1, ["\ufffd\ufffd", "2"])]


def test_parquet_is_read_across_row_groups_from_any_row_on(tmp_path: Path) -> None:
    path = tmp_path / "file.parquet"
    table = pa.table(
        {
            "n": list(range(10)),
            "ts": pa.array([AT] * 10, pa.timestamp("ns", tz="UTC")),
            "x": [None, 1.5] * 5,
        }
    )
    parquet.write_table(table, path, row_group_size=3)
    assert columns_of(path, "parquet") == ["n", "ts", "x"]
    expected = [Row(n + 1, (n, AT, None if n % 2 == 0 else 1.5)) for n in range(10)]
    for after in range(11):
        assert rows(path, "parquet", after, size=4) == expected[after:]
    fractions = [batch.fraction for batch in batches(path, "parquet", after=0, size=4)]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"", "csv"),
        (b"\n1,2\n", "csv"),
        (b"a,a\n1,2\n", "csv"),
        (b"a," * 3000 + b"\n", "csv"),
        (b"a\x00b,c\n", "csv"),
        (b"a,b\n1,2\n", "parquet"),
        (b"PAR1" + b"\x00" * 100 + b"PAR1", "parquet"),
    ],
)
def test_a_file_that_is_not_what_it_claims_is_refused(
    tmp_path: Path, content: bytes, kind: Any
) -> None:
    path = csv_file(tmp_path, content)
    with pytest.raises(InvalidInputError):
        columns_of(path, kind)


@given(content=st.binary(max_size=300))
def test_any_bytes_are_rows_or_refused(
    content: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = csv_file(tmp_path_factory.getbasetemp(), content)
    try:
        columns_of(path, "csv")
    except InvalidInputError:
        return
    numbers = [row.number for row in rows(path, "csv")]
    assert numbers == list(range(1, len(numbers) + 1))
