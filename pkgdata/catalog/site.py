"""A page of the catalog: one file, all datasets in it, with a search where JavaScript runs."""

from __future__ import annotations

import html
import os
from pathlib import Path

from ..base import fs
from ..errors import CatalogError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .index import Record
    from .library import Catalog

_STYLE = """
:root { color-scheme: light dark; --line: #8886; --soft: #888; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { margin-bottom: .2rem; }
#count, .meta, footer { color: var(--soft); }
#terms { font: inherit; width: 100%; box-sizing: border-box; padding: .4rem .6rem; }
article { border-top: 1px solid var(--line); padding: .8rem 0; }
article[hidden] { display: none; }
h2 { font-size: 1.05rem; margin: 0; overflow-wrap: anywhere; }
h2 a { color: inherit; text-decoration: none; }
pre { white-space: pre-wrap; font: inherit; margin: .3rem 0; }
.mark { border: 1px solid var(--line); border-radius: .6rem; padding: 0 .5rem;
  font-size: .85rem; margin-right: .3rem; display: inline-block; background: none; color: inherit;
  cursor: pointer; }
code { overflow-wrap: anywhere; }
"""

# the same terms as `pkgdata catalog search`; a term that is no regular expression yet, because it
# is being typed, counts as a plain word
_SCRIPT = """
const cards = [...document.querySelectorAll("article")];
const input = document.getElementById("terms");
const data = cards.map((card) => ({ card, ...JSON.parse(card.dataset.facts) }));
function compile(text) {
  try { return new RegExp(text, "i"); }
  catch { return new RegExp(text.replace(/[.*+?^${}()|[\\]\\\\]/g, "\\\\$&"), "i"); }
}
const whole = (text) => compile("^(?:" + text + ")$");
function condition(term) {
  const found = /^(tag|task|type|repo|repository):(.*)$/.exec(term);
  if (!found) {
    const re = compile(term);
    return (one) => re.test(one.id) || re.test(one.title);
  }
  if (found[1] === "type") {
    const re = whole(found[2]);
    return (one) => one.types.some((t) => re.test(t) || re.test(t.split(".").pop()));
  }
  const re = compile(found[2]);
  if (found[1] === "tag") return (one) => one.tags.some((t) => re.test(t));
  if (found[1] === "task") return (one) => one.tasks.some((t) => re.test(t));
  return (one) => re.test(one.repository);
}
function terms(text) {
  return [...text.matchAll(/(\\w+:)?"([^"]*)"|(\\S+)/g)].map((m) => m[3] ?? (m[1] ?? "") + m[2]);
}
function apply() {
  const wanted = terms(input.value).map(condition);
  let count = 0;
  for (const one of data) {
    const good = wanted.every((test) => test(one));
    one.card.hidden = !good;
    count += good;
  }
  const total = data.length;
  document.getElementById("count").textContent =
    count === total ? `${total} datasets` : `${count} of ${total} datasets`;
}
document.getElementById("search").addEventListener("submit", (event) => event.preventDefault());
input.addEventListener("input", () => {
  history.replaceState(null, "", input.value ? "#?" + encodeURIComponent(input.value) : "#");
  apply();
});
document.addEventListener("click", (event) => {
  const term = event.target.dataset?.term;
  if (term) { input.value = term; input.dispatchEvent(new Event("input")); scrollTo(0, 0); }
});
document.getElementById("search").hidden = false;
if (location.hash.startsWith("#?")) {
  try { input.value = decodeURIComponent(location.hash.slice(2)); } catch { input.value = ""; }
}
apply();
"""

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; style-src 'sha256-{style_hash}'; script-src 'sha256-{script_hash}'">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<h1>{title}</h1>
<p id="count">{count} datasets</p>
<form id="search" role="search" hidden action="#">
<label for="terms">Search: names, or tag: task: type: repo:, as regular expressions</label>
<input id="terms" type="search" autocomplete="off" spellcheck="false" autofocus>
</form>
<main>
{cards}
</main>
<footer><p>Written by pkgdata. <code>pkgdata catalog prepare NAME</code> brings a dataset here.</p>
</footer>
<script>{script}</script>
</body>
</html>
"""

_CARD = """<article id="{anchor}" data-facts="{facts}">
<h2><a href="#{anchor}">{name}</a></h2>
<p class="meta">{meta}</p>
{title}{text}<p>{marks}</p>
</article>"""


def render(title: str, records: Iterable[Record]) -> str:
    """Return the page."""
    cards = [_card(one) for one in records]
    return _PAGE.format(
        title=html.escape(title),
        style=_STYLE,
        script=_SCRIPT,
        style_hash=_hash(_STYLE),
        script_hash=_hash(_SCRIPT),
        count=len(cards),
        cards="\n".join(cards),
    )


def _hash(text: str) -> str:
    import base64
    import hashlib

    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _card(one: Record) -> str:
    import json

    keys = ("id", "title", "tags", "tasks", "types", "repository")
    facts = json.dumps({key: getattr(one, key) for key in keys}, ensure_ascii=False)
    return _CARD.format(
        anchor=html.escape(f"{one.id}@{one.repository}", quote=True),
        facts=html.escape(facts, quote=True),
        name=html.escape(one.id),
        meta=_meta(one),
        title=f"<p>{html.escape(one.title)}</p>\n" if one.title else "",
        text=f"<pre>{html.escape(one.description)}</pre>\n" if one.description else "",
        marks=_marks("tag", one.tags) + _marks("task", one.tasks),
    )


def _meta(one: Record) -> str:
    kind = one.types[0].rpartition(".")[2] if one.types else ""
    pieces = [html.escape(one.repository), html.escape(kind)]
    if one.url and one.url.startswith(("http://", "https://")):
        shown = html.escape(one.url, quote=True)
        pieces.append(f'<a href="{shown}" rel="noreferrer">{shown}</a>')
    return " · ".join(filter(None, pieces))


def _marks(kind: str, values: Sequence[str]) -> str:
    import re

    found = []
    for value in values:
        pattern = f"^{re.escape(value)}$".replace("\\ ", " ").replace("\\-", "-")
        pattern = pattern.replace('"', "\\x22")
        term = f'{kind}:"{pattern}"' if " " in pattern else f"{kind}:{pattern}"
        shown = html.escape(term, quote=True)
        label = html.escape(value)
        found.append(f'<button class="mark" type="button" data-term="{shown}">{label}</button>')
    return "".join(found)


def write(catalog: Catalog, folder: str | os.PathLike[str], title: str) -> tuple[int, Path]:
    """Write the page of a catalog.

    Parameters
    ----------
    folder : path-like
        Where ``index.html`` goes; other files there are left alone.

    Returns
    -------
    (int, Path)
        How many datasets are on it, and its file.

    Raises
    ------
    CatalogError
        It cannot be written.
    """
    records = catalog.search()
    path = Path(folder, "index.html")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fs.write_atomic(str(path), render(title, records).encode())
    except OSError as error:
        raise CatalogError(f"{path} cannot be written: {error.strerror or error}") from error
    return len(records), path
