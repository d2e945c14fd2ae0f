"""Files that are whole or absent, and folders that prove what they hold."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

from mlops.errors import ArtifactDamagedError

MANIFEST = "manifest.json"
_CHUNK = 1 << 20


def sha256_of(path: Path) -> str:
    """Return the hex digest of a file, read in pieces.

    Raises:
        ArtifactDamagedError: It does not exist.
    """
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    except FileNotFoundError as error:
        raise ArtifactDamagedError(f"{path} is missing") from error
    return digest.hexdigest()


def replace_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file, then give it its name in one step.

    The temporary name keeps the suffix: some writers choose their format by it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{uuid4().hex}-{path.name}")
    try:
        write(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def seal(folder: Path, about: dict[str, object]) -> str:
    """Write the manifest: `about` and every file's digest. Returns the manifest's digest."""
    files = {
        path.name: sha256_of(path)
        for path in sorted(folder.iterdir())
        if path.is_file() and path.name != MANIFEST
    }
    text = json.dumps({**about, "files": files}, indent=1, sort_keys=True)
    replace_atomically(folder / MANIFEST, lambda path: path.write_text(text))
    return sha256_of(folder / MANIFEST)


def open_sealed(folder: Path, sha256: str) -> dict[str, object]:
    """Return the manifest of a folder after checking every digest.

    Raises:
        ArtifactDamagedError: The folder, or a file of it, is missing or was changed.
    """
    if sha256_of(folder / MANIFEST) != sha256:
        raise ArtifactDamagedError(f"{folder} does not hold what was referred to")
    manifest = json.loads((folder / MANIFEST).read_text())
    for name, digest in manifest["files"].items():
        # The names come from a file: none may lead out of the folder.
        if Path(name).name != name or sha256_of(folder / name) != digest:
            raise ArtifactDamagedError(f"{folder / name} was changed after it was written")
    return manifest


def fresh_folder(final: Path) -> Path:
    """Return a new empty folder beside `final`, to be moved there by `publish`."""
    folder = final.with_name(f".{uuid4().hex}-{final.name}")
    folder.mkdir(parents=True)
    return folder


def publish(folder: Path, final: Path) -> None:
    """Move a finished folder to its final name, in place of what an earlier attempt left."""
    old = final.with_name(f".{uuid4().hex}-old-{final.name}")
    if final.exists():
        final.rename(old)
    folder.rename(final)
    shutil.rmtree(old, ignore_errors=True)
