"""Secrets are made once, readable by their owner only, and never replaced in silence."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from core.errors import ConfigurationError
from core.settings.secrets import Secrets


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "home" / "secrets.json"


def test_the_first_start_makes_a_file_for_its_owner_only(path: Path) -> None:
    secrets = Secrets.load_or_create(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in path.parent.iterdir()] == ["secrets.json"]
    assert Secrets.load_or_create(path) == secrets


def test_no_umask_makes_the_file_readable_by_others(path: Path) -> None:
    before = os.umask(0)
    try:
        Secrets.load_or_create(path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_every_installation_has_secrets_of_its_own(tmp_path: Path) -> None:
    first = Secrets.load_or_create(tmp_path / "a.json").model_dump()
    second = Secrets.load_or_create(tmp_path / "b.json").model_dump()
    assert all(first[name] != second[name] for name in first)
    assert len(set(first.values())) == len(first)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o666])
def test_a_file_that_others_can_read_is_refused(path: Path, mode: int) -> None:
    Secrets.load_or_create(path)
    path.chmod(mode)
    with pytest.raises(ConfigurationError, match=f"chmod 600 {path}"):
        Secrets.load_or_create(path)


@pytest.mark.parametrize("fault", ["cut", "empty", "missing", "unknown", "list"])
def test_a_damaged_file_is_refused_and_left_as_it_is(path: Path, fault: str) -> None:
    Secrets.load_or_create(path)
    content = json.loads(path.read_text())
    match fault:
        case "cut":
            damaged = path.read_text()[:-40]
        case "empty":
            damaged = ""
        case "missing":
            damaged = json.dumps({k: v for k, v in content.items() if k != "vault_key"})
        case "unknown":
            damaged = json.dumps(content | {"surprise": "x"})
        case _:
            damaged = "[]"
    path.write_text(damaged)
    with pytest.raises(ConfigurationError, match="is damaged") as error:
        Secrets.load_or_create(path)
    assert path.read_text() == damaged
    assert not any(value in str(error.value) for value in content.values())


def test_a_file_of_an_older_version_gets_what_is_new_and_keeps_the_rest(path: Path) -> None:
    before = Secrets.load_or_create(path)
    older = {k: v for k, v in json.loads(path.read_text()).items() if k != "mqtt_auth"}
    path.write_text(json.dumps(older))
    after = Secrets.load_or_create(path)
    assert after.model_dump(exclude={"mqtt_auth"}) == older
    assert len(after.mqtt_auth) > 30
    assert after.mqtt_auth != before.mqtt_auth
    assert Secrets.load_or_create(path) == after
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in path.parent.iterdir()] == ["secrets.json"]


def test_processes_that_start_at_once_agree(path: Path) -> None:
    script = (
        "import sys, pathlib; from core.settings.secrets import Secrets;"
        "sys.stdin.read(1); print(Secrets.load_or_create(pathlib.Path(sys.argv[1])).vault_key)"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(6)
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("x")
        process.stdin.flush()
    keys = {process.communicate(timeout=60)[0] for process in processes}
    assert [process.returncode for process in processes] == [0] * 6
    assert len(keys) == 1
    assert [file.name for file in path.parent.iterdir()] == ["secrets.json"]


def test_secrets_are_not_shown(path: Path) -> None:
    secrets = Secrets.load_or_create(path)
    shown = f"{secrets} {secrets!r} {[secrets]}"
    assert not any(value in shown for value in secrets.model_dump().values())
