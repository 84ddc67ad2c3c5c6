"""A page of the catalog: one file, all datasets in it, with a search where JavaScript runs."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import os
import re
from pathlib import Path
from string import Template

from ..base import fs
from ..errors import CatalogError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .index import IndexEntry
    from .library import Catalog


def _template(name: str) -> str:
    return Path(__file__).with_name("templates").joinpath(name).read_text("utf-8")


def render(title: str, records: Iterable[IndexEntry]) -> str:
    """Return the page."""
    style, script, card = _template("site.css"), _template("site.js"), _template("card.html")
    cards = [_card(one, Template(card)) for one in records]
    return Template(_template("site.html")).substitute(
        title=html.escape(title),
        style=style,
        script=script,
        style_hash=_hash(style),
        script_hash=_hash(script),
        count=len(cards),
        cards="".join(cards),
    )


def _hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _card(one: IndexEntry, template: Template) -> str:
    keys = ("id", "title", "tags", "tasks", "types", "repository")
    facts = json.dumps({key: getattr(one, key) for key in keys}, ensure_ascii=False)
    return template.substitute(
        anchor=html.escape(f"{one.id}@{one.repository}", quote=True),
        facts=html.escape(facts, quote=True),
        name=html.escape(one.id),
        meta=_meta(one),
        title=f"<p>{html.escape(one.title)}</p>\n" if one.title else "",
        text=f"<pre>{html.escape(one.description)}</pre>\n" if one.description else "",
        marks=_marks("tag", one.tags) + _marks("task", one.tasks),
    )


def _meta(one: IndexEntry) -> str:
    kind = one.types[0].rpartition(".")[2] if one.types else ""
    pieces = [html.escape(one.repository), html.escape(kind)]
    if one.url and one.url.startswith(("http://", "https://")):
        shown = html.escape(one.url, quote=True)
        pieces.append(f'<a href="{shown}" rel="noreferrer">{shown}</a>')
    return " · ".join(filter(None, pieces))


def _marks(kind: str, values: Sequence[str]) -> str:
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
    """Write the page of a catalog as ``index.html``; return the number of datasets and its path."""
    records = catalog.search()
    path = Path(folder, "index.html")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fs.write_atomic(str(path), render(title, records).encode())
    except OSError as error:
        raise CatalogError(f"{path} cannot be written: {error.strerror or error}") from error
    return len(records), path
