"""The types of the web application are those of the API."""

import json
from pathlib import Path

from api.app import create_app
from core.settings import Settings

COMMITTED = Path(__file__).resolve().parents[2] / "web" / "openapi.json"


def test_the_committed_openapi_document_is_the_apis(settings: Settings) -> None:
    document = json.loads(json.dumps(create_app(settings).openapi()))
    assert json.loads(COMMITTED.read_text()) == document, (
        "the API has changed; write the web application's types again: "
        "python web/tools/build.py types"
    )
