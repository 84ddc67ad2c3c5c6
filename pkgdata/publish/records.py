"""A registry of what a DOI's record holds, on Zenodo, Figshare or a Dataverse, or of Croissant.

The services tell names, sizes and digests, so nothing is downloaded; and each entry gets the
address of its file. What a service's own digest is worth is what its MD5 is worth: it finds damage,
not malice. Zenodo's and Figshare's own DOIs hold the record's number; of any other, doi.org tells
where it leads.

A Dataverse turns tables into a format of its own, but the digest it tells is that of the file that
was uploaded: for these the original's name, size and address are taken.

Croissant (https://docs.mlcommons.org/croissant) is read from a file or an address, as JSON or
within a page. Files that lie in an archive, and those without a digest, are left out with a
warning. Hugging Face names only patterns in a repository, of which its interface tells files and
digests.
"""

from __future__ import annotations

import base64
import functools
import os
import re
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from typing import Any, NamedTuple
from urllib.parse import quote, unquote, urljoin, urlsplit

from ..base import fs
from ..base.hashes import Digest
from ..base.report import MOST_JSON, parse_json
from ..base.urls import join, redact
from ..core.registry import Entry, Registry
from ..errors import (
    ConfigError,
    ObjectNotFoundError,
    PkgdataWarning,
    RegistryError,
    StoreError,
    warn,
)
from .rest import Answer, Rest, is_loopback

#: Where the services are.
SITES = {
    "doi": "https://doi.org",
    "zenodo": "https://zenodo.org",
    "sandbox": "https://sandbox.zenodo.org",
    "figshare": "https://api.figshare.com/v2",
    "huggingface": "https://huggingface.co",
}

#: Where pages have it.
_SCRIPT = re.compile(r"application/ld\+json[^>]{0,1000}>", re.I)

#: Answers of Hugging Face that list files; each has a thousand.
_PAGES = 100

#: How records are named whose service and number the name tells.
_NAMES = {
    r"zenodo:(\d+)": "zenodo",
    r"(?i:doi:10\.5281/zenodo\.(\d+))": "zenodo",
    r"(?i:doi:10\.5072/zenodo\.(\d+))": "sandbox",
    r"figshare:(\d+)(?:/v?(\d+))?": "figshare",
    r"(?i:doi:10\.6084/m9\.figshare\.(\d+)(?:\.v(\d+))?)": "figshare",
}

_EXPECTED = (
    "doi:10.5281/zenodo.1234567, zenodo:1234567, figshare:1234567, figshare:1234567/2, or the path "
    "or address of a croissant.json"
)


class Record(Registry):
    """The files of a record, and what it says of the whole."""

    #: By the keys of the table [package] of pkgdata.toml.
    about: dict[str, str]


def from_record(record: str) -> Record:
    """Return a registry of the files of a record.

    It is named as ``doi:…``, the address of one at doi.org, ``zenodo:RECORD`` or
    ``figshare:ARTICLE``, of which the last version is taken, or ``figshare:ARTICLE/VERSION``; or it
    is the path or address of a Croissant file.
    """
    doi = re.fullmatch(r"(?:doi:|https?://(?:dx\.)?doi\.org/)(10\.\d+/\S+?)/?", record.strip())
    name = f"doi:{doi[1]}" if doi else record
    for pattern, site in _NAMES.items():
        if found := re.fullmatch(pattern, name):
            return _registry(_of_number(site, *found.groups()), record)
    if doi is None and (_is_here(record) or record.startswith(("https://", "http://"))):
        metadata = _croissant(record)
        return _registry(_of_croissant(metadata, record), record, _about(metadata))
    if doi is None:
        raise ConfigError(f"{redact(record)!r} names no record", hint=f"expected {_EXPECTED}")
    return _registry(_of_page(doi[1], _target(doi[1])), record)


def _registry(entries: Iterable[Entry], record: str, about: dict[str, str] | None = None) -> Record:
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
            f"{record} shows no files", hint="they may be restricted, under embargo, or elsewhere"
        )
    registry = Record(found[name] for name in sorted(found))
    registry.about = about or {}
    return registry


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


# -- Croissant -----------------------------------------------------------------------------------


def _is_here(record: str) -> bool:
    return os.path.exists(record) and not os.path.isdir(record)


def _croissant(record: str) -> Answer:
    """Read Croissant from a file or an address."""
    shown = redact(record)
    if _is_here(record):
        with open(record, "rb", opener=fs.regular) as file:
            content = file.read(MOST_JSON + 1)
    else:
        try:
            parts = urlsplit(record)
        except ValueError as error:
            raise RegistryError(f"{shown} is no address: {error}", file=record) from None
        where = record.partition("://")[2].partition("/")[2]
        rest = _client(parts.hostname or "", f"{parts.scheme}://{parts.netloc}")
        content = b""
        for block in rest.read(where, anonymous=True):
            content += block
            if len(content) > MOST_JSON:
                break
    if len(content) > MOST_JSON:
        raise RegistryError(f"{shown} has more than {MOST_JSON} bytes", file=record)
    text = content.decode("utf-8-sig", "replace")
    if text.lstrip()[:1] == "<":  # a page
        inside = _SCRIPT.search(text)
        if inside:
            text = re.split("</script", text[inside.end() :], maxsplit=1, flags=re.I)[0]

    def wrong(why: str) -> RegistryError:
        return RegistryError(f"{shown}: {why}", file=record)

    found = parse_json(text, wrong, object_hook=functools.partial(Answer, shown, shown))
    if not isinstance(found, Answer) or "distribution" not in found:
        raise RegistryError(f"{shown} is no Croissant: it has no 'distribution'", file=record)
    return found


def _about(metadata: Answer) -> dict[str, str]:
    """Return what Croissant says of the whole, by the keys of the table [package]."""
    license = _first(metadata.get("license"))
    if isinstance(license, Answer):
        license = license.get("url") or license.get("name")
    found = {
        "description": metadata.get("description"),
        "license": license,
        "citation": metadata.get("citeAs"),
        "homepage": metadata.get("url"),
    }
    return {key: value.strip() for key, value in found.items() if isinstance(value, str) and value}


def _first(value: Any) -> Any:
    return next(iter(value), None) if isinstance(value, list) else value


def _all(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _of_croissant(metadata: Answer, record: str) -> Iterator[Entry]:
    parts = [one for one in _all(metadata["distribution"]) if isinstance(one, Answer)]
    left = []
    for one in parts:
        if one.get("containedIn") or "FileSet" in str(one.get("@type")):
            continue  # in an archive, or a pattern within it
        if "git+https" in _all(one.get("encodingFormat")):
            yield from _of_hugging_face(one.address("contentUrl"), _patterns(one, parts))
            continue
        digest, url = _croissant_digest(one), one.get("contentUrl")
        if isinstance(url, str) and url.startswith("./") and _is_address(record):
            url = one["contentUrl"] = urljoin(record, url)  # of our own page, and wherever that is
        if digest is None or not isinstance(url, str) or not _is_address(url):
            left.append(str(one.get("name") or one.get("@id")))
        else:
            size = _croissant_size(one)
            yield Entry(_croissant_name(one), digest, size, (one.address("contentUrl"),))
    if left:
        warn(f"left out, as they have no digest or address: {', '.join(left[:5])}", PkgdataWarning)


def _is_address(url: str) -> bool:
    try:
        return bool(urlsplit(url).scheme and "://" in url)
    except ValueError:
        return False  # an odd host


def _croissant_name(file: Answer) -> str:
    """Return a file's name: with its folders from its id, with its ending from its address."""
    name, key = file.maybe("name") or file.text("@id"), file.maybe("@id") or ""
    if key.endswith(f"/{name}") and "://" not in key:
        return key
    last = unquote(urlsplit(file.text("contentUrl")).path.rpartition("/")[2])
    return last if "." in last and "." not in name else name


def _croissant_size(file: Answer) -> int | None:
    """Return a size in bytes; ``98.3 KB`` is rounded, and says nothing exact."""
    found = re.fullmatch(r"(\d{1,18})(?: ?(?:B|bytes))?", str(file.get("contentSize")), re.I)
    return int(found[1]) if found else None


def _croissant_digest(file: Answer) -> Digest | None:
    for alg in ("sha256", "md5"):
        value = file.get(alg)
        if not isinstance(value, str):
            continue
        try:
            if value.endswith("="):  # Kaggle writes base64
                value = base64.b64decode(value, validate=True).hex()
            return Digest.parse(f"{alg}:{value}")
        except ValueError:
            continue  # Hugging Face has an address there
    return None


def _patterns(repository: Answer, parts: Iterable[Answer]) -> list[str]:
    """Return the patterns of the files that Croissant names in a repository."""
    key = repository.get("@id") or repository.get("name")
    found = []
    for one in parts:
        inside = _first(one.get("containedIn"))
        if key == (inside.get("@id") if isinstance(inside, Answer) else inside):
            found += [pattern for pattern in _all(one.get("includes")) if isinstance(pattern, str)]
    return found


def _of_hugging_face(page: str, patterns: list[str]) -> Iterator[Entry]:
    """Yield the files of a repository that patterns match, by the interface of Hugging Face."""
    site = SITES["huggingface"]
    where = re.fullmatch(re.escape(site) + r"/datasets/([^/]+(?:/[^/]+)?)/tree/([^/?#]+)/?", page)
    if where is None:
        raise ConfigError(f"{redact(page)} is a repository, and none of Hugging Face")
    base = f"{site}/datasets/{where[1]}/resolve/{where[2]}/"
    left = 0
    for file in _tree(site, f"api/datasets/{where[1]}/tree/{where[2]}?recursive=true"):
        name = file.text("path")
        if file.get("type") != "file" or not any(fnmatchcase(name, one) for one in patterns):
            continue
        if "lfs" in file:
            digest = file.table("lfs").digest("oid", "sha256")
            yield Entry(name, digest, file.number("size"), (join(base, name),))
        else:
            left += 1  # of a small file only git's own digest is told
    if left:
        warn(f"{page}: {left} small files are left out, of no known SHA-256", PkgdataWarning)


def _tree(site: str, path: str) -> Iterator[Answer]:
    rest, following = _client("Hugging Face", site), path or None
    for _ in range(_PAGES):
        if following is None:
            return
        rows, following = rest.linked(following, anonymous=True)
        yield from rows
    raise RegistryError(f"{site}/{path} lists more than {_PAGES} pages")


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
