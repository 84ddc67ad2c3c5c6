"""The page ``index.html`` next to published files, for people and, as Croissant, for programs.

What it says stands in the HTML itself, so that it can be read without a server and without
JavaScript; a script only adds the search and the copying. All that comes from elsewhere (names,
descriptions, what files hold) is escaped, and the page's policy lets nothing else run or load.

The metadata are Croissant 1.1 (https://docs.mlcommons.org/croissant), as JSON-LD.
"""

from __future__ import annotations

import json
import mimetypes
import os
import re
import shlex
from html import escape, unescape
from typing import NamedTuple

from ..base import disk, hashes, text, urls
from ..errors import PublishError
from ..stores import public
from .destination import PAGE, Item

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    from ..base.hashes import Digest
    from ..core.registry import Entry
    from .destination import Destination
    from .previews import Preview

#: By this a page of ours is told from one that somebody has written.
_MARK = 'content="pkgdata publish"'

#: The names on a page, as its rows have them; older pages have them between tags.
_LISTED = re.compile(r'<tr data-name="([^"]*)"|<td class="name"><a [^>]*>([^<]*)</a>')

#: What stands on a page for the address of a folder that nobody serves yet; see page.js.
_SOMEWHERE = "https://HOST/FOLDER/"

#: A page of at most so many files shows their previews opened.
_FEW = 20

#: A DOI within a text.
_DOI = re.compile(r"\b10\.\d{4,9}/[^\s\"<>{},;]+[^\s\"<>{},;.)\]]")


class About(NamedTuple):
    """What a page says of its files as a whole; ``license`` is an SPDX identifier or an address."""

    title: str
    description: str = ""
    license: str = ""
    citation: str = ""
    homepage: str = ""
    version: str = ""
    doi: str = ""
    #: Other versions and the addresses of their pages, the newest first.
    versions: Sequence[tuple[str, str]] = ()

    def at(self, destination: Destination, doi: str) -> About:
        """Return what is said at a destination, with a DOI that some destination gave."""
        place = destination.url.rstrip("/").rpartition("/")[2]
        others = destination.versions(self.version) if self.version else []
        found = sorted(others, key=_order, reverse=True)
        links = [
            (one, f"../{urls.quote_name(place.replace(self.version, one, 1))}/{PAGE}")
            for one in found
        ]
        return self._replace(doi=self.doi or doi, versions=links)


def _order(version: str) -> list[tuple[int, str]]:
    """Return what sorts 1.10 behind 1.9."""
    return [(int(digits or 0), word) for digits, word in re.findall(r"(\d+)|([^\d.]+)", version)]


def page(
    about: About,
    entries: Sequence[Entry],
    base: str | None,
    previews: Mapping[str, Preview] | None = None,
    sums: Mapping[str, Digest] | None = None,
) -> str:
    """Return the page of files below a public base URL; None if it is not known.

    Previews are by name; so are ``sums``: digests of files whose entry has another kind of digest
    than Croissant knows.
    """
    previews = previews or {}
    opened = "open" if len(entries) <= _FEW else ""
    return text.page(
        *(__file__, "page.html", "page.css", "page.js"),
        title=text.html(about.title),
        lead=_optional("lead", about.description),
        facts="\n".join(_facts(about, entries)),
        uses=_uses(about, entries[0], base or _SOMEWHERE),
        cite=_optional("cite", about.citation),
        rows="\n".join(_row(entry, previews.get(entry.name), opened) for entry in entries),
        croissant=_in_script(croissant(about, entries, base, sums)),
    )


def _part(file: str, /, **words: object) -> str:
    return text.template(__file__, file, **words)


def _optional(part: str, words: str) -> str:
    return _part(f"parts.html#{part}", text=text.html(words)) if words else ""


# -- what it says --------------------------------------------------------------------------------


def _doi(about: About) -> str:
    found = _DOI.search(f"{about.doi} {about.citation}")
    return found[0] if found else ""


def _license_url(name: str) -> str:
    """Return where a licence is written: SPDX has a page for each identifier."""
    if name.startswith(("https://", "http://")):
        return name
    spdx = re.fullmatch(r"[A-Za-z0-9.+-]+", name)
    return f"https://spdx.org/licenses/{name}.html" if spdx else ""


def _facts(about: About, entries: Sequence[Entry]) -> Iterable[str]:
    """Yield the short facts below the title; each is a link if it leads somewhere."""
    doi, total = _doi(about), text.size(sum(entry.size or 0 for entry in entries))
    known = [
        ("Files", str(len(entries)), ""),
        ("Size", total, ""),
        ("Version", about.version, ""),
        ("Licence", about.license, _license_url(about.license)),
        ("DOI", doi, f"https://doi.org/{urls.quote_name(doi)}"),
        ("Homepage", re.sub("^https?://|/$", "", about.homepage), about.homepage),
        *(("Other version", version, address) for version, address in about.versions),
    ]
    for label, value, link in known:
        if value:
            words = {"label": label, "value": text.html(value)}
            if link.startswith(("https://", "http://", "../")):  # not a script: "javascript:…"
                yield _part("parts.html#link", href=escape(link), **words)
            else:
                yield _part("parts.html#fact", **words)


def _uses(about: About, entry: Entry, base: str) -> str:
    """Return how a first file is fetched, in Python, in a shell, by pooch and by curl."""
    name, url = entry.name, address(base, entry)
    digest = entry.digest
    words = {
        "title": repr(about.title),
        "base": repr(base),
        "name": repr(name),
        "digest": repr(str(digest)),
        "url": repr(url),
        "last": repr(name.rpartition("/")[2]),
        "shell_url": shlex.quote(url),
        "shell_name": shlex.quote(f"./{name}"),
        "sum": shlex.quote(f"{digest.hex if digest else ''}  ./{name}"),
        "program": f"{digest.alg if digest else 'sha256'}sum",
    }
    tabs, panels = [], []
    for kind, label in (
        ("python", "Python"),
        ("shell", "Shell"),
        ("pooch", "pooch"),
        ("curl", "curl"),
    ):
        code = _part(f"use-{kind}.txt", **words).rstrip("\n")
        checked = "checked" if kind == "python" else ""
        tabs.append(_part("parts.html#tab", kind=kind, label=label, checked=checked))
        panels.append(_part("parts.html#panel", kind=kind, label=label, code=text.html(code)))
    return "\n".join(tabs + panels)


def _row(entry: Entry, preview: Preview | None, opened: str) -> str:
    name = text.html(entry.name)
    return _part(
        "parts.html#row",
        key=escape(entry.name),
        href=escape(address(None, entry)),
        name=name,
        bytes=entry.size,
        size=text.size(entry.size),
        digest=text.html(entry.digest),
        **dict(zip(("image", "facts", "more"), _shown(name, preview, opened), strict=True)),
    )


def _shown(name: str, preview: Preview | None, opened: str) -> tuple[str, str, str]:
    """Return the picture of a file, its facts, and what unfolds below them."""
    if preview is None:
        return "", "", ""
    image, facts, lines = preview.image, preview.facts, "\n".join(preview.lines)
    inside = _table(preview.rows, name) if preview.rows else ""
    inside += _part("parts.html#text", text=text.html(lines), name=name) if lines else ""
    if lines and (image or preview.rows):
        opened = ""  # a long header, next to what it is about
    return (
        _part("parts.html#image", source=escape(image), name=name) if image else "",
        _optional("small", facts),
        _part("parts.html#more", shown=inside, name=name, opened=opened) if inside else "",
    )


def _table(rows: Sequence[Sequence[str]], name: str) -> str:
    lines = [_part("parts.html#line", cells=_cells("cell", row)) for row in rows[1:]]
    return _part("parts.html#rows", head=_cells("head", rows[0]), body="".join(lines), name=name)


def _cells(kind: str, cells: Iterable[str]) -> str:
    return "".join(_part(f"parts.html#{kind}", text=text.html(cell)) for cell in cells)


def address(base: str | None, entry: Entry) -> str:
    """Return the public address of a file below a base URL; relative to the page without one."""
    return urls.join(public(base), entry.name) if base else f"./{urls.quote_name(entry.name)}"


# -- Croissant ---------------------------------------------------------------------------------


def croissant(
    about: About,
    entries: Sequence[Entry],
    base: str | None,
    sums: Mapping[str, Digest] | None = None,
) -> dict[str, Any]:
    """Return the metadata of files below a public base URL; it and ``sums`` are as for `page`."""
    found: dict[str, Any] = json.loads(text.template(__file__, "croissant.json"))
    doi, count = _doi(about), text.counted(len(entries), "file")
    facts = {
        "name": about.title,
        "description": about.description or f"{count} of {about.title}",
        "license": _license_url(about.license) or about.license,
        "url": about.homepage or (urls.join(public(base), PAGE) if base else f"./{PAGE}"),
        "version": about.version,
        "citeAs": about.citation,
        "identifier": f"https://doi.org/{doi}" if doi else "",
    }
    found |= {key: value for key, value in facts.items() if value}
    found["distribution"] = [
        _file_object(number, one, base, (sums or {}).get(one.name, one.digest))
        for number, one in enumerate(entries, 1)
    ]
    return found


def _file_object(
    number: int, entry: Entry, base: str | None, digest: Digest | None
) -> dict[str, Any]:
    kind, packed = mimetypes.guess_type(entry.name)
    plain = re.fullmatch(r"[\w./-]+", entry.name, re.ASCII)  # mlcroissant takes no blank in an @id
    found = {
        "@type": "cr:FileObject",
        "@id": entry.name if plain else f"file-{number}",
        "name": entry.name,
        "contentUrl": address(base, entry),
        "encodingFormat": kind if kind and not packed else "application/octet-stream",
    }
    if entry.size is not None:
        found["contentSize"] = f"{entry.size} B"
    if digest is not None and digest.alg in ("sha256", "md5"):
        found[digest.alg] = digest.hex
    return found


def _in_script(value: object) -> str:
    """Return JSON that no parser of HTML finds an end of the element in."""
    found = json.dumps(value, ensure_ascii=True, separators=(",", ":"))
    for character in "<>&":
        found = found.replace(character, f"\\u{ord(character):04x}")
    return found


# -- where it is ---------------------------------------------------------------------------------


def listed(content: str) -> set[str]:
    """Return the names of the files on a page of ours."""
    return {unescape(new or old) for new, old in _LISTED.findall(content)}


def check_page(destination: Destination) -> str:
    """Return the page that is there; refuse one of somebody else's."""
    found = b"".join(destination.read(PAGE)).decode(errors="replace")
    if _MARK not in found[:1000]:
        raise PublishError(
            f"{destination.url} has an {PAGE} that pkgdata did not write",
            hint="publish to another folder or prefix, or without --index",
        )
    return found


def publish_page(destination: Destination, content: str) -> None:
    """Put the page to a destination."""
    with disk.temporary("page") as folder:
        path = os.path.join(folder, PAGE)
        with open(path, "w", encoding="utf-8", newline="\n") as file:
            file.write(content)
        item = Item(PAGE, path, *hashes.measure_file(path))
        destination.begin([], [item])
        destination.put(item, True, lambda _: None)
        destination.finish()
