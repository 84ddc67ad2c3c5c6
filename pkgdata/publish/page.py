"""The landing page next to published files: ``index.html``, one file that needs no other.

What it says stands in the HTML itself, so that it can be read without a server and without
JavaScript; a script only adds the search and the copying.
"""

from __future__ import annotations

import base64
import hashlib
import os
import tempfile
from html import escape

from ..base import hashes, urls
from ..errors import ObjectNotFoundError, PublishError
from ..stores import open_store, public
from .destination import Item, template

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..core.registry import Entry
    from .destination import Destination

#: Its name at a destination.
NAME = "index.html"

#: By this a page of ours is told from one that somebody has written.
_MARK = b'content="pkgdata publish"'

_SNIPPET = """import pkgdata

data = pkgdata.declare(
    {title!r},
    dataurl={base!r},
    registry={{{name!r}: {digest!r}}},
)
path = data.get({name!r})
"""


def render(title: str, entries: Sequence[Entry], base: str) -> str:
    """Return the page of files below a public base URL."""
    first = entries[0]
    snippet = _SNIPPET.format(title=title, base=base, name=first.name, digest=str(first.digest))
    style, script = "\n" + template("page.css"), "\n" + template("page.js")
    values = {
        "title": escape(title),
        "count": f"{len(entries)} file{'' if len(entries) == 1 else 's'}",
        "total": _size(sum(entry.size or 0 for entry in entries)),
        "snippet": escape(snippet),
        "rows": "".join(map(_row, entries)).rstrip("\n"),
        "style": style,
        "script": script,
        "style_hash": _hash(style),
        "script_hash": _hash(script),
    }
    return template("page.html", values)


def _row(entry: Entry) -> str:
    values = {
        "href": escape("./" + urls.quote_name(entry.name)),
        "name": escape(entry.name),
        "bytes": entry.size,
        "size": _size(entry.size or 0),
        "digest": escape(str(entry.digest)),
    }
    return template("row.html", values)


def _hash(text: str) -> str:
    """Return what a content security policy calls a text."""
    digest = hashlib.sha256(text.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}" if count < 100 or unit == "B" else f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def address(base: str) -> str:
    """Return the web address of the page below a public base URL, such as ``s3://bucket/prefix``."""
    return urls.join(public(base), NAME)


def check_place(destination: Destination) -> None:
    """Make sure that no page of somebody else's would be replaced."""
    base = destination.dataurl
    if base is None or NAME not in destination.held():
        return
    try:
        text = open_store(base).get(NAME, stop=1000)
    except ObjectNotFoundError:
        text = b""  # the public does not see it
    if _MARK not in text:
        raise PublishError(
            f"{destination.url} has an {NAME} that pkgdata did not write",
            hint="publish to another folder or prefix, or without --index",
        )


def publish(destination: Destination, text: str) -> None:
    """Put the page to a destination."""
    with tempfile.TemporaryDirectory(prefix="pkgdata-page-") as folder:
        path = os.path.join(folder, NAME)
        with open(path, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
        item = Item(NAME, path, *hashes.measure_file(path))
        destination.begin([], [item])
        destination.put(item, True, lambda _: None)
        destination.finish()
