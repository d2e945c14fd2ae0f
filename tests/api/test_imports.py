"""Files are uploaded, tried, started once, watched, and their refused rows downloaded."""

import csv
import io
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pyarrow as pa
import pytest
import sqlalchemy as sa
from fastapi import FastAPI
from pyarrow import parquet
from sqlmodel import col, select

from api.app import create_app
from core.db.session import Database
from core.db.tables import ImportRefusal, TelemetryImport, TriggerOutbox
from core.imports.files import file_of
from core.settings import Settings
from tests.api.conftest import Enter, Person, client_for
from tests.support.tenants import MadeDevice, make_device, make_profile, make_tenant

PATH = "/api/v1/telemetry/imports"
FILE = "device,ts,a\npump-1,2025-03-01T10:00:00Z,1\npump-1,never,2\nnobody,2025-03-01T10:00:01Z,3\n"
MAPPING = {"device_column": "device", "time_column": "ts"}


@pytest.fixture
async def device(owner: Database, tenant_id: UUID) -> MadeDevice:
    return await make_device(owner, tenant_id, await make_profile(owner, tenant_id), "pump-1")


async def upload(client: httpx.AsyncClient, content: str | bytes = FILE, **more: str) -> Any:
    body = content.encode() if isinstance(content, str) else content
    answer = await client.post(PATH, params={"filename": "x.csv"} | more, content=body)
    assert answer.status_code == 201, answer.text
    return answer.json()


async def test_a_file_is_kept_and_its_first_rows_are_tried(
    client: httpx.AsyncClient, device: MadeDevice, settings: Settings
) -> None:
    made = await upload(client)
    assert (made["status"], made["columns"], made["size"]) == (
        "uploaded",
        ["device", "ts", "a"],
        len(FILE),
    )
    answer = await client.post(f"{PATH}/{made['id']}/preview", json={"mapping": MAPPING})
    assert answer.status_code == 200, answer.text
    tried = answer.json()
    assert (tried["rows"], tried["good"]) == (3, 1)
    assert [(f["row"], f["column"], f["code"]) for f in tried["faults"]] == [
        (2, "ts", "invalid_time"),
        (3, "device", "unknown_device"),
    ]
    assert tried["sample"] == [
        {
            "row": 1,
            "device_id": str(device.id),
            "timestamp": "2025-03-01T10:00:00Z",
            "metrics": {"a": 1.0},
        }
    ]
    wrong = {"mapping": MAPPING | {"time_column": "when"}}
    for what in ("preview", "start"):
        answer = await client.post(f"{PATH}/{made['id']}/{what}", json=wrong)
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["pointer"] == "/mapping/time_column"
    assert file_of(settings.imports, UUID(made["id"]), "csv").read_text() == FILE


async def test_parquet_is_tried_with_its_own_types(
    client: httpx.AsyncClient, device: MadeDevice
) -> None:
    buffer = io.BytesIO()
    at = datetime(2025, 3, 1, tzinfo=UTC)
    table = pa.table({"time": [at, at], "v": [1.5, None], "w": [True, None]})
    parquet.write_table(table, buffer)
    made = await upload(client, buffer.getvalue(), format="parquet")
    mapping = {"device_id": str(device.id), "time_column": "time"}
    answer = await client.post(f"{PATH}/{made['id']}/preview", json={"mapping": mapping})
    assert answer.json()["sample"][0]["metrics"] == {"v": 1.5, "w": 1.0}
    assert answer.json()["faults"][0]["code"] == "empty"


async def test_an_import_is_started_once_and_cancelled(
    admin: Person, owner: Database, device: MadeDevice, settings: Settings
) -> None:
    client = admin.client
    made = await upload(client)
    path = f"{PATH}/{made['id']}"
    answer = await client.post(f"{path}/start", json={"mapping": MAPPING})
    assert answer.status_code == 202, answer.text
    assert (answer.json()["status"], answer.json()["fire_triggers"]) == ("running", False)
    assert answer.json()["mapping"]["device_by"] == "name"
    assert (await client.post(f"{path}/start", json={"mapping": MAPPING})).status_code == 409
    async with owner.transaction(admin.tenant_id) as session:
        (told,) = await session.scalars(
            select(TriggerOutbox.payload).where(col(TriggerOutbox.tenant_id) == admin.tenant_id)
        )
    assert told["workflow_type"] == "TelemetryImport"
    assert told["input"]["import_id"] == made["id"]
    assert (await client.delete(path)).status_code == 409

    answer = await client.post(f"{path}/cancel")
    assert (answer.status_code, answer.json()["status"]) == (200, "cancelled")
    assert not file_of(settings.imports, UUID(made["id"]), "csv").exists()
    assert (await client.post(f"{path}/cancel")).status_code == 409
    answer = await client.post(f"{path}/preview", json={"mapping": MAPPING})
    assert answer.status_code == 409
    listed = (await client.get(PATH, params={"status": "cancelled"})).json()
    assert [entry["id"] for entry in listed["imports"]] == [made["id"]]
    assert (await client.get(PATH, params={"status": "running"})).json()["imports"] == []
    assert (await client.delete(path)).status_code == 204
    assert (await client.get(path)).status_code == 404
    audited = await client.get("/api/v1/audit", params={"resource_id": made["id"]})
    assert [entry["action"] for entry in audited.json()["entries"]] == [
        "import.deleted",
        "import.cancelled",
        "import.started",
        "import.uploaded",
    ]


async def test_refused_rows_come_as_csv_that_can_be_mended(
    client: httpx.AsyncClient, owner: Database, tenant_id: UUID
) -> None:
    made = await upload(client)
    async with owner.transaction(tenant_id) as session:
        session.add_all(
            ImportRefusal(
                import_id=UUID(made["id"]),
                tenant_id=tenant_id,
                row=number,
                column_name="ts",
                code="invalid_time",
                message="no time",
                cells=["pump-1", 'ne"ver,', "2"],
            )
            for number in range(1, 1203)
        )
    answer = await client.get(f"{PATH}/{made['id']}/refused")
    assert answer.headers["content-type"].startswith("text/csv")
    lines = list(csv.reader(io.StringIO(answer.text)))
    assert lines[0][:4] == ["device", "ts", "a", "refused_row"]
    assert lines[1202] == ["pump-1", 'ne"ver,', "2", "1202", "ts", "invalid_time", "no time"]
    assert len(lines) == 1203


async def test_what_is_no_such_file_or_nobodys_business_is_refused(
    client: httpx.AsyncClient, enter: Enter, tenant_id: UUID, owner: Database, settings: Settings
) -> None:
    before = {*settings.imports.glob("*")} if settings.imports.exists() else set()
    for content, kind in ((b"", "csv"), (b"a,a\n", "csv"), (b"a,b\n", "parquet")):
        answer = await client.post(PATH, params={"filename": "x", "format": kind}, content=content)
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_input")
    assert {*settings.imports.glob("*")} == before
    reader = await enter(tenant_id, "end_user")
    answer = await reader.client.post(PATH, params={"filename": "x"}, content=b"a,b\n")
    assert answer.status_code == 403
    made = await upload(client)
    stranger = await enter(await make_tenant(owner))
    assert (await stranger.client.get(f"{PATH}/{made['id']}")).status_code == 404
    assert (await stranger.client.get(f"{PATH}/{made['id']}/refused")).status_code == 404


async def test_a_file_that_is_too_long_leaves_nothing_behind(
    postgres_server: Settings, valkey_server: Settings, admin: Person
) -> None:
    api = postgres_server.api.model_copy(update={"import_max_bytes": 100})
    small: FastAPI = create_app(replace(postgres_server, api=api))
    before = {*postgres_server.imports.glob("*")}

    async def pieces() -> Any:
        for _ in range(20):
            yield b"a,b\n1,2\n"

    async with (
        small.router.lifespan_context(small),
        client_for(small, authorization=f"Bearer {admin.access_token}") as client,
    ):
        contents: tuple[Any, ...] = (b"x" * 101, pieces())
        for content in contents:
            answer = await client.post(PATH, params={"filename": "x"}, content=content)
            assert answer.status_code == 413
    assert {*postgres_server.imports.glob("*")} == before


async def test_files_that_nobody_starts_are_forgotten_at_the_next_upload(
    client: httpx.AsyncClient, owner: Database, tenant_id: UUID, settings: Settings
) -> None:
    old = await upload(client)
    async with owner.transaction(tenant_id) as session:
        await session.execute(
            sa.update(TelemetryImport)
            .where(col(TelemetryImport.id) == UUID(old["id"]))
            .values(created_at=datetime.now(UTC) - timedelta(days=2))
        )
    new = await upload(client)
    listed = (await client.get(PATH)).json()["imports"]
    assert [entry["id"] for entry in listed] == [new["id"]]
    assert not file_of(settings.imports, UUID(old["id"]), "csv").exists()
