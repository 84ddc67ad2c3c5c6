"""The landing page beside published files: ``index.html``, one file that needs no other.

What it says stands in the HTML itself, so that it can be read without a server and without
JavaScript; a script only adds the search and the copying.
"""

from __future__ import annotations

import os
from html import escape

from ..base import urls
from ..errors import ObjectNotFoundError, PublishError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..core.registry import Entry
    from .destination import Destination

#: Its name at a destination.
NAME = "index.html"

#: By this a page of ours is told from one that somebody has written.
_MARK = '<meta name="generator" content="pkgdata publish">'

_STYLE = """
:root { color-scheme: light dark; --line: #8886; --soft: #8882; }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 72rem; padding: 1rem; }
h1 { margin: 0.5rem 0; overflow-wrap: anywhere; }
pre { background: var(--soft); border-radius: 6px; overflow-x: auto; padding: 0.75rem; }
code, .digest { font-family: ui-monospace, monospace; font-size: 0.85em; }
.digest { overflow-wrap: anywhere; }
input { border: 1px solid var(--line); border-radius: 6px; font: inherit; max-width: 30rem;
  padding: 0.4rem 0.6rem; width: 100%; }
table { border-collapse: collapse; margin-top: 1rem; width: 100%; }
th, td { border-bottom: 1px solid var(--line); padding: 0.4rem 0.6rem; text-align: left;
  vertical-align: top; }
td.size, th.size { text-align: right; white-space: nowrap; }
td.name { overflow-wrap: anywhere; }
a:focus-visible, input:focus-visible, button:focus-visible { outline: 3px solid #06c; }
button { font: inherit; }
tr[hidden] { display: none; }
@media (max-width: 640px) {
  thead { clip-path: inset(50%); height: 1px; overflow: hidden; position: absolute; width: 1px; }
  table, tbody, tr, td { display: block; width: 100%; }
  tr { border: 1px solid var(--line); border-radius: 6px; margin-bottom: 0.6rem; padding: 0.4rem; }
  td { border: 0; padding: 0.1rem 0.4rem; }
  td.size { text-align: left; }
}
"""

_SCRIPT = """
const box = document.getElementById("search");
const rows = [...document.querySelectorAll("tbody tr")];
const count = document.getElementById("count");
function search() {
  const words = box.value.toLowerCase().split(/\\s+/).filter(Boolean);
  let shown = 0;
  for (const row of rows) {
    const text = row.textContent.toLowerCase();
    row.hidden = !words.every(word => text.includes(word));
    shown += !row.hidden;
  }
  count.textContent = `${shown} of ${rows.length} files`;
}
document.getElementById("tools").hidden = false;
box.addEventListener("input", search);
document.addEventListener("keydown", event => {
  if (event.key === "/" && document.activeElement !== box) {
    event.preventDefault();
    box.focus();
  } else if (event.key === "Escape" && document.activeElement === box) {
    box.value = "";
    search();
  }
});
const copy = document.getElementById("copy");
copy.addEventListener("click", async () => {
  await navigator.clipboard.writeText(document.getElementById("snippet").textContent);
  copy.textContent = "Copied";
});
copy.hidden = !navigator.clipboard;
search();
"""

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
{mark}
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; style-src '{style_hash}'; script-src '{script_hash}'">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<main>
<h1>{title}</h1>
<p>{count}, {total}. Each can be verified by its digest.</p>
<h2>In Python</h2>
<pre><code id="snippet">{snippet}</code></pre>
<p><button id="copy" type="button" hidden>Copy</button></p>
<h2>Files</h2>
<div id="tools" hidden>
<label for="search">Search (press <kbd>/</kbd>; <kbd>Esc</kbd> clears)</label><br>
<input id="search" type="search" autocomplete="off" spellcheck="false">
<p id="count" role="status" aria-live="polite"></p>
</div>
<table>
<thead><tr><th scope="col">Name</th><th scope="col" class="size">Size</th>
<th scope="col">Digest</th></tr></thead>
<tbody>
{rows}
</tbody>
</table>
</main>
<script>{script}</script>
</body>
</html>
"""

_ROW = (
    '<tr><td class="name"><a href="{href}" download>{name}</a></td>'
    '<td class="size" title="{bytes} bytes">{size}</td><td class="digest">{digest}</td></tr>'
)

_SNIPPET = """import pkgdata

data = pkgdata.declare(
    {title!r},
    dataurl={base!r},
    registry={{{name!r}: {digest!r}}},
)
path = data.get({name!r})
"""


def render(title: str, entries: Sequence[Entry], base: str) -> str:
    """Return the page.

    Parameters
    ----------
    base : str
        Public base URL.
    """
    rows = [
        _ROW.format(
            href=escape("./" + urls.quote_name(entry.name)),
            name=escape(entry.name),
            bytes=entry.size,
            size=_size(entry.size or 0),
            digest=escape(str(entry.digest)),
        )
        for entry in entries
    ]
    first = entries[0]
    snippet = _SNIPPET.format(title=title, base=base, name=first.name, digest=str(first.digest))
    return _PAGE.format(
        mark=_MARK,
        title=escape(title),
        count=f"{len(entries)} file{'' if len(entries) == 1 else 's'}",
        total=_size(sum(entry.size or 0 for entry in entries)),
        snippet=escape(snippet),
        rows="\n".join(rows),
        style=_STYLE,
        script=_SCRIPT,
        style_hash=_hash(_STYLE),
        script_hash=_hash(_SCRIPT),
    )


def _hash(text: str) -> str:
    """Return what a content security policy calls a text."""
    import base64
    import hashlib

    digest = hashlib.sha256(text.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}" if count < 100 or unit == "B" else f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def address(base: str) -> str:
    """Return the web address of the page.

    Parameters
    ----------
    base : str
        Public base URL, such as ``s3://bucket/prefix``.
    """
    from ..stores import public

    return urls.join(public(base), NAME)


def check_place(destination: Destination) -> None:
    """Make sure that no page of somebody else's would be replaced.

    Raises
    ------
    PublishError
        There is one, or what there is cannot be read.
    """
    from ..stores import open_store

    base = destination.dataurl
    if base is None or NAME not in destination.held():
        return
    try:
        text = open_store(base).get(NAME, stop=1000)
    except ObjectNotFoundError:
        text = b""  # the public does not see it
    if _MARK.encode() not in text:
        raise PublishError(
            f"{destination.url} has an {NAME} that pkgdata did not write",
            hint="publish to another folder or prefix, or without --index",
        )


def publish(destination: Destination, text: str) -> None:
    """Put the page to a destination."""
    import tempfile

    from ..base import hashes
    from .destination import Item

    with tempfile.TemporaryDirectory(prefix="pkgdata-page-") as folder:
        path = os.path.join(folder, NAME)
        with open(path, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
        item = Item(NAME, path, *hashes.measure_file(path))
        destination.begin([], [item])
        destination.put(item, True, lambda _: None)
        destination.finish()
