"""Serves the web application: the static files of `web/out`, when they are there."""

import asyncio
import base64
import hashlib
import os
import re
import stat
from functools import lru_cache
from pathlib import Path

from fastapi import FastAPI
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, HTMLResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

FOLDER = Path(__file__).parent.parent / "web" / "out"
_OURS = ("/api/", "/ws/")
_INLINE_SCRIPT = re.compile(rb"<script(?![^>]*\ssrc=)[^>]*>(.*?)</script>", re.DOTALL)
_HASHED = "/_next/static/"
"""Files whose names change with their content."""


class WebApplication:
    """What is asked for when no route of the API matches.

    `/devices` is answered by `devices`, `devices.html` or `devices/index.html`; a browser that
    asks for a page that is none of these gets `404.html`.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files = StaticFiles(directory=folder, check_dir=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request.

        Raises:
            HTTPException: There is no such file, or the method is not GET or HEAD.
        """
        response = await self._respond(scope)
        await response(scope, receive, send)

    async def _respond(self, scope: Scope) -> Response:
        path = scope["path"]
        if path.startswith(_OURS) or not self._folder.is_dir():
            raise HTTPException(404)
        if scope["method"] not in ("GET", "HEAD"):
            raise HTTPException(405, headers={"Allow": "GET, HEAD"})
        found = await asyncio.to_thread(self._find, path.strip("/"))
        if found is None:
            return await self._missing(scope)
        if found.suffix == ".html":
            return await asyncio.to_thread(_page, found)
        response = FileResponse(found)
        response.headers["cache-control"] = (
            "public, max-age=31536000, immutable" if path.startswith(_HASHED) else "no-cache"
        )
        return response

    async def _missing(self, scope: Scope) -> Response:
        page = await asyncio.to_thread(self._find, "404.html")
        if page is None or "text/html" not in Headers(scope=scope).get("accept", ""):
            raise HTTPException(404)
        return await asyncio.to_thread(_page, page, 404)

    def _find(self, path: str) -> Path | None:
        if "\x00" in path:
            return None
        names = [path, f"{path}.html", f"{path}/index.html"] if path else ["index.html"]
        for name in names:
            # Refuses what leads out of the folder.
            full, found = self._files.lookup_path(os.path.normpath(name))
            if found is not None and stat.S_ISREG(found.st_mode):
                return Path(full)
        return None


def _page(file: Path, status: int = 200) -> Response:
    content, policy = _content_and_policy(file, file.stat().st_mtime_ns)
    return HTMLResponse(
        content,
        status,
        headers={"content-security-policy": policy, "cache-control": "no-cache"},
    )


@lru_cache(maxsize=256)
def _content_and_policy(file: Path, _changed: int) -> tuple[bytes, str]:
    """Return a page and the policy by which its own inline scripts may run, and no others."""
    content = file.read_bytes()
    hashes = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(script).digest()).decode()}'"
        for script in _INLINE_SCRIPT.findall(content)
    )
    policy = (
        f"default-src 'self'; script-src 'self' {hashes}; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data: blob:; connect-src 'self' ws: wss:; base-uri 'self'; "
        "form-action 'self'; object-src 'none'; frame-ancestors 'none'"
    )
    return content, policy


def serve_web(app: FastAPI, folder: Path = FOLDER) -> None:
    """Answer with the web application whatever no route answers."""
    application: ASGIApp = WebApplication(folder)
    not_found = app.router.default

    async def default(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await application(scope, receive, send)
        else:
            await not_found(scope, receive, send)

    app.router.default = default
