"""Settings come from the environment, over defaults that make an embedded stack."""

import os
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from core.settings import load_settings
from core.settings.database import with_login


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("IOTLINKER_")]:
        monkeypatch.delenv(name)


def test_by_default_everything_is_on_loopback(tmp_path: Path) -> None:
    settings = load_settings(tmp_path)
    for url in (settings.admin_database_url, settings.valkey_url, settings.mlflow_url):
        assert urlsplit(url).hostname == "127.0.0.1"
    assert settings.temporal_address == "127.0.0.1:7233"
    assert settings.api_url == "http://127.0.0.1:8000"
    assert settings.mqtt_endpoint == "mqtt://127.0.0.1:1883"
    assert settings.outbound.allow_networks == []


def test_an_address_replaces_an_embedded_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IOTLINKER_DATABASE_URL", "postgresql://root:pw@db.example:6000/plant")
    monkeypatch.setenv("IOTLINKER_VALKEY_URL", "redis://cache.example/3")
    monkeypatch.setenv("IOTLINKER_TEMPORAL_ADDRESS", "temporal.example:7233")
    settings = load_settings(tmp_path)
    api = urlsplit(settings.database_url("api"))
    assert (api.hostname, api.port, api.path) == ("db.example", 6000, "/plant")
    assert (api.username, api.password) == ("iotlinker_api", settings.secrets.database_api)
    assert urlsplit(settings.database_url("mlflow")).path == "/iotlinker_mlflow"
    assert settings.valkey_url == "redis://cache.example/3"
    assert settings.temporal_address == "temporal.example:7233"


def test_networks_are_separated_by_commas(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IOTLINKER_OUTBOUND_ALLOW_NETWORKS", "10.0.0.0/8,fd00::/8")
    assert load_settings(tmp_path).outbound.allow_networks == [
        IPv4Network("10.0.0.0/8"),
        IPv6Network("fd00::/8"),
    ]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("IOTLINKER_OUTBOUND_ALLOW_NETWORKS", "everything"),
        ("IOTLINKER_OUTBOUND_ALLOW_NETWORKS", "10.0.0.1/8"),  # has bits beside the network's
        ("IOTLINKER_API_PORT", "http"),
    ],
)
def test_a_value_of_the_wrong_form_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ValidationError):
        load_settings(tmp_path)


@given(st.text(min_size=1, alphabet=st.characters(exclude_categories=["Cs"])))
def test_any_password_survives_an_address(password: str) -> None:
    url = with_login("postgresql://a:b@db.example:6000/plant?x=1", "user", password)
    parts = urlsplit(url)
    assert unquote(parts.password or "") == password
    assert (parts.hostname, parts.port, parts.path, parts.query) == (
        "db.example",
        6000,
        "/plant",
        "x=1",
    )
