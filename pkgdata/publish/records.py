"""A registry of what a DOI's record holds: on Zenodo, Figshare or a Dataverse.

The services tell names, sizes and digests, so nothing is downloaded; and each entry gets the
address of its file. What a service's own digest is worth is what its MD5 is worth: it finds damage,
not malice. Zenodo's and Figshare's own DOIs hold the record's number; of any other, doi.org tells
where it leads.

A Dataverse turns tables into a format of its own, but the digest it tells is that of the file that
was uploaded: for these the original's name, size and address are taken.
"""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import quote, urlsplit

from ..base import fs
from ..base.urls import join, redact
from ..core.registry import Entry, Registry
from ..errors import ConfigError, ObjectNotFoundError, RegistryError, StoreError
from .rest import Rest, is_loopback

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..base.hashes import Digest
    from .rest import Answer

#: Where the services are.
SITES = {
    "doi": "https://doi.org",
    "zenodo": "https://zenodo.org",
    "sandbox": "https://sandbox.zenodo.org",
    "figshare": "https://api.figshare.com/v2",
}

#: How records are named whose service and number the name tells.
_NAMES = {
    r"zenodo:(\d+)": "zenodo",
    r"(?i:doi:10\.5281/zenodo\.(\d+))": "zenodo",
    r"(?i:doi:10\.5072/zenodo\.(\d+))": "sandbox",
    r"figshare:(\d+)(?:/v?(\d+))?": "figshare",
    r"(?i:doi:10\.6084/m9\.figshare\.(\d+)(?:\.v(\d+))?)": "figshare",
}

_EXPECTED = "doi:10.5281/zenodo.1234567, zenodo:1234567, figshare:1234567 or figshare:1234567/2"


def from_record(record: str) -> Registry:
    """Return a registry of the files of a record.

    It is named as ``doi:…``, the address of one at doi.org, ``zenodo:RECORD`` or
    ``figshare:ARTICLE``, of which the last version is taken, or ``figshare:ARTICLE/VERSION``.
    """
    doi = re.fullmatch(r"(?:doi:|https?://(?:dx\.)?doi\.org/)(10\.\d+/\S+?)/?", record.strip())
    name = f"doi:{doi[1]}" if doi else record
    for pattern, site in _NAMES.items():
        if found := re.fullmatch(pattern, name):
            return _registry(_of_number(site, *found.groups()), record)
    if doi is None:
        raise ConfigError(f"{redact(record)!r} names no record", hint=f"expected {_EXPECTED}")
    return _registry(_of_page(doi[1], _target(doi[1])), record)


def _registry(entries: Iterable[Entry], record: str) -> Registry:
    found: dict[str, Entry] = {}
    for entry in entries:
        fs.safe_name(entry.name)
        if entry.name in found:
            raise RegistryError(
                f"{record} has two files of the name {entry.name!r}",
                hint="add the one that you want to the registry by hand, with its own address",
            )
        found[entry.name] = entry
    if not found:
        raise RegistryError(
            f"{record} shows no files",
            hint="they may be restricted, under embargo, or elsewhere",
        )
    return Registry(found[name] for name in sorted(found))


def _of_number(site: str, number: str, version: str | None = None) -> list[Entry]:
    return _of_figshare(number, version) if site == "figshare" else _of_zenodo(site, number)


def _target(doi: str) -> str:
    """Ask doi.org where a DOI leads, without going there."""
    rest = _client("doi.org", SITES["doi"])
    answer = rest.json("GET", f"api/handles/{quote(doi)}", anonymous=True)
    for value in answer.tables("values") if "values" in answer else ():
        if value.get("type") == "URL":
            return value.table("data").address("value")
    raise ObjectNotFoundError(f"doi:{doi} leads nowhere", url=f"doi:{doi}")


def _of_page(doi: str, page: str) -> list[Entry]:
    """Return the files of the record that a page shows."""
    parts = urlsplit(page)
    host = parts.hostname or ""
    zenodo = re.fullmatch(r"/records?/(\d+)/?", parts.path)
    figshare = _article(parts.path) if f".{host}".endswith(".figshare.com") else None
    if zenodo and host == urlsplit(SITES["zenodo"]).hostname:
        return _of_zenodo("zenodo", zenodo[1])
    if figshare:
        return _of_figshare(*figshare)
    # old records lead to http, though their sites speak https now
    scheme = parts.scheme if is_loopback(host) else "https"
    return _of_dataverse(doi, f"{scheme}://{parts.netloc}")


def _article(path: str) -> tuple[str, str | None] | None:
    """Return the article and version of ``/articles/KIND/TITLE/ARTICLE[/VERSION]``."""
    parts = path.partition("/articles/")[2].strip("/").split("/")
    # a title may be a number too
    numbers = parts[2:] if len(parts) > 2 else parts
    if not numbers[0].isdigit():
        return None
    return numbers[0], numbers[1] if len(numbers) > 1 and numbers[1].isdigit() else None


def _client(name: str, site: str) -> Rest:
    return Rest(name, site, scheme="", secret=str, rights="the record must be public")


# -- the services ------------------------------------------------------------------------------


def _of_zenodo(site: str, number: str) -> list[Entry]:
    base = SITES[site]
    record = _client("Zenodo", base).json("GET", f"api/records/{number}", anonymous=True)
    # a number that stands for all versions is answered with the last one
    files = f"{base}/records/{record.number('id')}/files/?download=1"
    found = []
    for file in _files_of(record):
        # the two interfaces of the service write them each in its own way
        name = file.maybe("key") or file.text("filename")
        size = file.number("size" if "size" in file else "filesize")
        digest = _digest(file, name, "checksum")
        found.append(Entry(name, digest, size, (join(files, name),)))
    return found


def _of_figshare(number: str, version: str | None) -> list[Entry]:
    rest = _client("Figshare", SITES["figshare"])
    if version is None:
        files = rest.pages(f"articles/{number}/files", "page_size", anonymous=True)
    else:
        path = f"articles/{number}/versions/{version}"
        files = _files_of(rest.json("GET", path, anonymous=True))
    return [
        Entry(
            file.text("name"),
            _digest(file, file.text("name"), "computed_md5", "supplied_md5"),
            file.number("size"),
            (file.address("download_url"),),
        )
        for file in files
        if not file.get("is_link_only")  # its bytes are elsewhere, and nobody answers for them
    ]


def _of_dataverse(doi: str, site: str) -> list[Entry]:
    rest = _client("the Dataverse", site)
    params = {"persistentId": f"doi:{doi}"}
    try:
        answer = rest.json("GET", "api/datasets/:persistentId", params=params, anonymous=True)
        files = answer.table("data").table("latestVersion").tables("files")
    except StoreError as error:
        if not (isinstance(error, ObjectNotFoundError) or vars(error).get("unexpected")):
            raise
        raise ConfigError(
            f"doi:{doi} leads to {redact(site)}, which is none of the known services",
            hint="known: Zenodo, Figshare, Dataverse",
        ) from None
    return [_dataverse_entry(site, file) for file in files]


def _dataverse_entry(site: str, listed: Answer) -> Entry:
    file = listed.table("dataFile")
    original = file.maybe("originalFileName") if file.get("originalFileFormat") else None
    name = original or listed.maybe("label") or file.text("filename")
    folder = (listed.maybe("directoryLabel") or "").strip("/")
    checksum = file.inner("checksum")
    kind = (checksum.maybe("type") or "MD5").lower().replace("-", "")
    digest = _digest(checksum, name, "value", alg=kind) if checksum else _digest(file, name, "md5")
    key = "originalFileSize" if original else "filesize"
    size = None if file.get(key) is None else file.number(key)
    url = f"{site}/api/access/datafile/{file.number('id')}{'?format=original' if original else ''}"
    return Entry(f"{folder}/{name}" if folder else name, digest, size, (url,))


def _digest(file: Answer, name: str, *keys: str, alg: str = "md5") -> Digest:
    for key in keys:
        if file.get(key):
            return file.digest(key, alg)
    raise RegistryError(f"{name!r}: the service tells no digest of it")


def _files_of(answer: Answer) -> list[Answer]:
    return answer.tables("files") if answer.get("files") else []


# -- into a registry ---------------------------------------------------------------------------


class Changes(NamedTuple):
    """What a record adds to a registry: new names, and those that got another address."""

    registry: Registry
    added: list[str]
    placed: list[str]


def update(registry: Registry, found: Registry) -> Changes:
    """Fill a registry with what a record holds; what it has of other files stays.

    A digest that is there stays, also next to a weaker one of the record, whose address is added.
    """
    entries = dict(registry)
    added, placed, differs = [], [], []
    for name, new in found.items():
        old = entries.get(name)
        if old is None:
            entries[name] = new
            added.append(name)
            continue
        if problem := _difference(old, new):
            differs.append(f"{name}: {problem}")
            continue
        urls = (*old.urls, *(url for url in new.urls if url not in old.urls))
        if urls != old.urls:
            placed.append(name)
        entries[name] = Entry(name, old.digest or new.digest, old.size or new.size, urls)
    if differs:
        more = f" and {len(differs) - 5} more" if len(differs) > 5 else ""
        raise RegistryError(
            f"the record has other files than the registry: {'; '.join(differs[:5])}{more}",
            hint="published bytes do not change: is it another version of the record?",
            file=registry.file,
        )
    return Changes(Registry(entries.values(), registry.file), added, placed)


def _difference(old: Entry, new: Entry) -> str | None:
    if old.size is not None and new.size is not None and old.size != new.size:
        return f"{old.size} bytes in the registry, {new.size} in the record"
    if old.digest is None or new.digest is None or old.digest.alg != new.digest.alg:
        return None
    if old.digest != new.digest:
        return f"{old.digest} in the registry, {new.digest} in the record"
    return None
