"""Moves inline scripts of the exported pages into files of their own.

Next writes each page's data as inline scripts. A Content-Security-Policy that forbids inline
scripts is the best defence against injected ones, and a static page cannot carry a nonce; with the
data in files `script-src 'self'` is enough, on our own server and on any CDN.
"""

import hashlib
import re
from pathlib import Path

FOLDER = "_next/static/inline"

# Next escapes "<" inside its scripts, so the first closing tag is the script's own.
_SCRIPT = re.compile(r"<script(?P<attributes>(?:\s[^>]*)?)>(?P<code>.*?)</script>", re.DOTALL)
_HAS_SOURCE = re.compile(r"\ssrc=")


def externalize(out: Path) -> int:
    """Rewrite every page under `out`; returns how many scripts were moved.

    The scripts stay in their places without `async` or `defer`, so that they run in the same order
    and before the page counts as parsed, as they did inline.
    """
    moved = 0

    def move(match: re.Match[str]) -> str:
        nonlocal moved
        attributes, code = match["attributes"], match["code"]
        if _HAS_SOURCE.search(attributes):
            return match[0]
        name = f"{FOLDER}/{hashlib.sha256(code.encode()).hexdigest()[:20]}.js"
        path = out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(code, encoding="utf-8")
        moved += 1
        return f'<script{attributes} src="/{name}"></script>'

    for page in sorted(out.rglob("*.html")):
        text = page.read_text(encoding="utf-8")
        page.write_text(_SCRIPT.sub(move, text), encoding="utf-8")
    return moved
