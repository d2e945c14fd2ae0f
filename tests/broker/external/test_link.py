"""Signing in at another broker: TLS both ways, a password, and a handler that takes its time."""

import asyncio
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from broker.external import link as module
from broker.external.link import Address, Link, LinkLostError, RefusedError
from broker.external.packets import Publish
from core.errors import ConfigurationError
from core.settings.processes import IngestSettings
from tests.support.certificates import make_certificate
from tests.support.mqtt_brokers import mosquitto, mosquitto_binary
from tests.support.waiting import eventually

needs_mosquitto = pytest.mark.skipif(
    mosquitto_binary() is None, reason="Mosquitto is not installed"
)


async def enter(settings: IngestSettings, *, five: bool = True) -> Link:
    return await Link.open(Address.of(settings), "test", settings, 1000, five=five, clean=True)


@needs_mosquitto
async def test_the_broker_and_ingest_know_each_other_by_certificates(tmp_path: Path) -> None:
    broker, own = make_certificate(tmp_path, "localhost"), make_certificate(tmp_path, "ingest")
    lines = (
        "allow_anonymous true",
        f"certfile {broker}",
        f"keyfile {broker}",
        f"cafile {own}",
        "require_certificate true",
    )
    with mosquitto(tmp_path, *lines) as port:
        right = IngestSettings(
            mqtt=f"mqtts://localhost:{port}", ca_file=broker, certificate_file=own
        )
        (await enter(right)).abort()
        with pytest.raises((OSError, LinkLostError, module.VersionError)):
            await enter(right.model_copy(update={"certificate_file": None}))
        with pytest.raises(OSError, match="certificate"):
            await enter(right.model_copy(update={"ca_file": own}))
        with pytest.raises(OSError, match="match"):  # another host name than the certificate's
            await enter(right.model_copy(update={"mqtt": f"mqtts://127.0.0.1:{port}"}))


@needs_mosquitto
@pytest.mark.parametrize("five", [True, False])
async def test_a_wrong_password_is_refused_and_shown_nowhere(tmp_path: Path, five: bool) -> None:
    passwords = tmp_path / "passwords"
    command = ["mosquitto_passwd", "-b", "-c", str(passwords), "ingest", "right"]
    await asyncio.to_thread(subprocess.run, command, check=True)
    lines = ("allow_anonymous false", f"password_file {passwords}")
    with mosquitto(tmp_path, *lines) as port:
        settings = IngestSettings(
            mqtt=f"mqtt://127.0.0.1:{port}", username="ingest", password=SecretStr("right")
        )
        (await enter(settings, five=five)).abort()
        wrong = settings.model_copy(update={"password": SecretStr("hush-hush")})
        with pytest.raises(RefusedError) as refused:
            await enter(wrong, five=five)
    shown = f"{refused.value!r} {Address.of(wrong)!r} {wrong!r}"
    assert "hush-hush" not in shown


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"mqtt": "http://broker"},
        {"mqtt": "mqtt://"},
        {"mqtt": "mqtt://user:secret@broker"},
        {"mqtt": "mqtts://broker", "ca_file": "/nowhere.pem"},
    ],
)
def test_an_address_that_cannot_be_used_is_told_before_anything_starts(
    settings: dict[str, Any],
) -> None:
    with pytest.raises(ConfigurationError) as error:
        Address.of(IngestSettings(**settings))
    assert "secret" not in str(error.value)


@needs_mosquitto
async def test_a_handler_that_waits_for_the_database_does_not_cost_the_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_KEEP_ALIVE", 1)
    entered, release = asyncio.Event(), asyncio.Event()
    taken: list[Publish] = []

    async def handler(link: Link, messages: list[Publish]) -> None:
        entered.set()
        await release.wait()
        taken.extend(messages)
        link.released([message.packet_id for message in messages if message.packet_id])

    with mosquitto(tmp_path) as port:
        settings = IngestSettings(mqtt=f"mqtt://127.0.0.1:{port}")
        consumer = await enter(settings)
        serving = asyncio.create_task(consumer.serve(handler, ["a"]))
        sender = await Link.open(
            Address.of(settings), "sender", settings, 1000, five=True, clean=True
        )
        sending = asyncio.create_task(sender.serve(None))

        async def heard() -> bool:
            await sender.publish("a", b"x")
            return entered.is_set()

        await eventually(heard)
        until = time.monotonic() + 3  # three times the keep-alive
        await eventually(lambda: time.monotonic() > until)
        assert not serving.done()
        release.set()
        await eventually(lambda: taken)
        assert not serving.done()
        for task in (serving, sending):
            task.cancel()
        await asyncio.wait((serving, sending))
