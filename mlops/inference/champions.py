"""Champions kept at hand: in memory, behind that on disk, behind that in MLflow.

Nothing that predicts waits for MLflow once a champion is known:

1. A champion in memory serves at once, however old.
2. The folder on disk is shared with training, which puts a new champion there when it promotes
   one; its pointer file is looked at on every call.
3. MLflow is asked every `REFRESH` seconds, in the background. When it is down, what is known
   serves on.
4. Only a model of which nothing is known is waited for.
"""

import asyncio
import json
import math
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from uuid import uuid4

import httpx
import structlog

from core.errors import IoTLinkerError, NotFoundError, UnavailableError
from core.settings import Settings
from mlops.errors import ArtifactDamagedError
from mlops.files import fresh_folder, publish, replace_atomically
from mlops.model import RulModel
from mlops.registry import CHAMPION, SHA256_TAG, Registry, Version, is_absent

REFRESH: Final = 30.0
"""Seconds between two looks at MLflow for one model."""

_AGAIN: Final = 2.0
"""Seconds until a model that is not there is asked for again."""

_MODELS: Final = 200
"""Models in memory, some megabytes each; the longest unused one goes."""

_TIMEOUT: Final = 5.0
_POINTER: Final = "champion.json"

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Champion:
    """A model that serves, and its version in the registry."""

    name: str
    version: str
    sha256: str
    model: RulModel


@dataclass(slots=True)
class _Entry:
    """What is known of one model.

    Attributes:
        pointer: State of the pointer file from which `champion` was read.
        asked: When MLflow was asked last.
        failure: Why it did not answer then.
    """

    champion: Champion | None = None
    pointer: int = 0
    asked: float = -math.inf
    failure: UnavailableError | None = None
    refresh: asyncio.Task[None] | None = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


def _root(settings: Settings, name: str) -> Path:
    return settings.artifacts / "champions" / name


def install(settings: Settings, version: Version, folder: Path) -> None:
    """Put a checked model on disk and point to it; blocking.

    Raises:
        ArtifactDamagedError: The files are not what was registered.
    """
    RulModel.load(folder, version.sha256)
    root = _root(settings, version.name)
    final = root / version.number
    copy = fresh_folder(final)
    shutil.copytree(folder, copy, dirs_exist_ok=True)
    publish(copy, final)
    text = json.dumps(
        {"version": version.number, "run_id": version.run_id, "sha256": version.sha256}
    )
    replace_atomically(root / _POINTER, lambda path: path.write_text(text))
    for old in root.iterdir():
        if old.is_dir() and old != final and not old.name.startswith("."):
            shutil.rmtree(old, ignore_errors=True)


class ChampionStore:
    """Finds the champion of a model; one per process."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._entries: dict[str, _Entry] = {}
        self._registry: Registry | None = None

    async def get(self, name: str) -> Champion:
        """Return the champion of a model.

        Raises:
            NotFoundError: There is none.
            UnavailableError: None is known here and MLflow does not answer.
            ArtifactDamagedError: The stored model is not what was registered.
        """
        entry = self._entry(name)
        if self._pointer(name) != entry.pointer or entry.champion is None:
            async with entry.lock:
                await self._from_disk(name, entry)
                # A burst of calls for a model that is not there asks once.
                if entry.champion is None and time.monotonic() - entry.asked > _AGAIN:
                    await self._ask(name, entry)
            if entry.champion is None and entry.failure is not None:
                raise entry.failure
        elif time.monotonic() - entry.asked >= REFRESH and entry.refresh is None:
            entry.refresh = asyncio.create_task(self._refresh(name, entry))
        if entry.champion is None:
            raise NotFoundError(
                "no model has been trained for this type of device; start a training for it "
                "once some devices have failure events in their history"
            )
        return entry.champion

    async def close(self) -> None:
        """End the looks at MLflow that are under way."""
        tasks = [entry.refresh for entry in self._entries.values() if entry.refresh is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _pointer(self, name: str) -> int:
        """Return what changes when another process points to another version; 0 for nothing."""
        try:
            return (_root(self._settings, name) / _POINTER).stat().st_mtime_ns
        except FileNotFoundError:
            return 0

    async def _from_disk(self, name: str, entry: _Entry) -> None:
        pointer = self._pointer(name)
        if pointer in (0, entry.pointer):
            return
        try:
            entry.champion = await asyncio.to_thread(self._load, name)
        except ArtifactDamagedError as error:
            if entry.champion is None:
                await asyncio.to_thread(self._forget, name)
            _log.warning("champion on disk is damaged", model=name, error=error.detail)
            return
        entry.pointer = pointer

    def _load(self, name: str) -> Champion:
        root = _root(self._settings, name)
        pointer = json.loads((root / _POINTER).read_text())
        model = RulModel.load(root / pointer["version"], pointer["sha256"])
        return Champion(name, pointer["version"], pointer["sha256"], model)

    def _forget(self, name: str) -> None:
        (_root(self._settings, name) / _POINTER).unlink(missing_ok=True)

    async def _refresh(self, name: str, entry: _Entry) -> None:
        try:
            async with entry.lock:
                await self._ask(name, entry)
        except IoTLinkerError as error:
            _log.warning("champion not refreshed", model=name, error=error.detail)
        finally:
            entry.refresh = None

    async def _ask(self, name: str, entry: _Entry) -> None:
        """Bring the entry into line with MLflow, or note why it did not answer."""
        try:
            version = await self._champion_version(name)
            entry.failure = None
            if version is None:
                entry.champion, entry.pointer = None, 0
                await asyncio.to_thread(self._forget, name)
                return
            known = entry.champion
            if known is None or (known.version, known.sha256) != (version.number, version.sha256):
                await asyncio.to_thread(self._fetch, version)
                await self._from_disk(name, entry)
        except UnavailableError as error:
            _log.warning("model registry does not answer", model=name, error=error.detail)
            entry.failure = error
        finally:
            entry.asked = time.monotonic()

    def _entry(self, name: str) -> _Entry:
        entry = self._entries.pop(name, None) or _Entry()
        self._entries[name] = entry  # the dictionary's order is that of use
        if len(self._entries) > _MODELS:
            oldest = next(iter(self._entries))
            if self._entries[oldest].refresh is None:
                del self._entries[oldest]
        return entry

    async def _champion_version(self, name: str) -> Version | None:
        # By plain HTTP: the MLflow client takes seconds to import and this runs inside the API.
        url = f"{self._settings.mlflow_url}/api/2.0/mlflow/registered-models/alias"
        try:
            async with httpx.AsyncClient(timeout=_TIMEOUT, trust_env=False) as client:
                answer = await client.get(url, params={"name": name, "alias": CHAMPION})
            body = answer.json()
        except (httpx.HTTPError, ValueError) as error:
            raise UnavailableError(
                f"the model registry at {self._settings.mlflow_url} does not answer: {error!r}"
            ) from error
        if is_absent(body.get("error_code", ""), body.get("message", "")):
            return None
        if answer.status_code != httpx.codes.OK:
            raise UnavailableError(f"the model registry answers {answer.status_code}: {body}")
        found = body["model_version"]
        tags = {tag["key"]: tag["value"] for tag in found.get("tags", ())}
        return Version(name, found["version"], found["run_id"], tags.get(SHA256_TAG, ""))

    def _fetch(self, version: Version) -> None:
        if self._registry is None:
            self._registry = Registry(self._settings)
        folder = _root(self._settings, version.name) / f".download-{uuid4().hex}"
        folder.mkdir(parents=True)
        try:
            install(self._settings, version, self._registry.download(version, folder))
        finally:
            shutil.rmtree(folder, ignore_errors=True)
