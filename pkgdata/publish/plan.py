"""Before anything is sent: which files there are, what is published already, what must not change.

Published bytes are immutable. A name whose bytes differ from what the registry or a destination has
is refused, unless the user names it to be replaced.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..base import config, fs, owners, pool, urls
from ..base.progress import Callback, Event, silent
from ..base.text import Choice
from ..core import scan
from ..core.declaration import ABOUT, TABLES, find_package
from ..core.package import PackageData
from ..core.registry import Entry, Registry
from ..errors import AlreadyPublishedError, ConfigError, PublishError
from .destination import PAGE, Destination, Held, Item, stamp_of
from .landing import About


@dataclass
class Plan:
    """What is to be done at one destination."""

    destination: Destination
    #: To be uploaded.
    new: list[Item] = field(default_factory=list)
    #: There already, with the right bytes.
    there: list[Item] = field(default_factory=list)
    #: There with other bytes, to be replaced as the user asked.
    replaced: list[Item] = field(default_factory=list)
    #: There with other bytes, which stay; what differs, by name.
    differs: dict[str, str] = field(default_factory=dict)
    #: Public addresses by name, where they are not base URL and name.
    urls: dict[str, str] = field(default_factory=dict)
    #: Whether a page is next to the files, and what it says if it is ours.
    has_page: bool = False
    page: str = ""
    #: Seconds that the uploads took.
    took: float = 0.0

    @property
    def to_send(self) -> list[Item]:
        """What is to be uploaded, the largest first: started last, it would leave threads idle."""
        return sorted([*self.new, *self.replaced], key=lambda item: -item.size)

    def rows(self) -> list[tuple[str, Item | str]]:
        """Return what becomes of each file, in a word, and the file or what differs."""
        rows: list[tuple[str, Item | str]] = [("new", item) for item in self.new]
        rows += [("replace", item) for item in self.replaced]
        rows += [("differs", f"{name}: {what}") for name, what in self.differs.items()]
        return rows + [("there", item) for item in self.there]


def measure(folder: str, registry_file: str | None, choice: Choice) -> tuple[int, int]:
    """Count the files that `collect` will hash, and their bytes; it reports what fails here."""
    try:
        paths = _paths(folder, registry_file, choice)
        sizes = [os.stat(path).st_size for path in paths.values()]
    except OSError:
        return 0, 0
    return len(sizes), sum(sizes)


def _paths(folder: str, registry_file: str | None, choice: Choice) -> dict[str, str]:
    inside = registry_file and fs.name_inside(folder, registry_file)
    return {
        name: path
        for name, path in fs.walk_files(folder)
        if choice(name) and name != inside and not owners.is_aside(name)
    }


def collect(
    folder: str, registry_file: str | None, choice: Choice, progress: Callback = silent
) -> list[Item]:
    """Hash the files of a folder, sorted by name, without the registry should it lie there."""
    if not os.path.isdir(folder):
        raise PublishError(f"{folder} is not a directory", hint="name the folder with the files")
    paths = _paths(folder, registry_file, choice)
    if not paths:
        chosen = " of those that are chosen" if any(fs.walk_files(folder)) else ""
        raise PublishError(f"{folder} holds no file to publish{chosen}")
    for name in paths:
        fs.safe_key(name)  # what no registry holds is refused before the first byte is read
    _check_links(folder, paths.values())
    stamps = {name: _stamp(path) for name, path in paths.items()}

    def hashed(event: Event) -> None:
        if event.name in paths:
            progress(event)

    found = scan.make(folder, choice=choice, progress=hashed)
    items = []
    for name in sorted(paths):
        entry = found.get(name)
        if entry is None or entry.digest is None or entry.size is None:
            raise PublishError(f"{paths[name]} vanished while it was hashed")
        item = Item(name, paths[name], entry.digest, entry.size, stamps[name])
        item.check_unchanged()
        items.append(item)
    return items


def odd_names(names: Iterable[str]) -> list[str]:
    """Return a line on each name that some users' systems could not hold."""
    found: list[str] = []
    seen: dict[str, str] = {}
    for name in names:
        problem = fs.name_problem(name, everywhere=True)
        same = seen.setdefault(unicodedata.normalize("NFC", name).casefold(), name)
        if problem is None and same != name:
            problem = f"macOS and Windows take it for {same!r}"
        if problem is not None:
            found.append(f"{name!r} cannot be stored on every system: {problem}")
    return found


def _stamp(path: str) -> tuple[int, int, int]:
    try:
        return stamp_of(path)
    except FileNotFoundError:
        raise PublishError(f"{path} is a link that leads nowhere") from None


def _check_links(folder: str, paths: Collection[str]) -> None:
    """Refuse links that leave the folder: what lies outside was not meant to be published."""
    root = os.path.realpath(folder)
    candidates = {*paths}
    for path in paths:
        parent = os.path.dirname(path)
        while len(parent) > len(folder) and parent not in candidates:
            candidates.add(parent)
            parent = os.path.dirname(parent)
    for path in sorted(candidates):
        target = os.path.realpath(path)
        if os.path.islink(path) and not target.startswith(root.rstrip(os.sep) + os.sep):
            raise PublishError(
                f"{path} is a link that leaves the folder, to {target}",
                hint="copy the file into the folder if it is to be published",
            )


def check_registry(items: Sequence[Item], registry: Registry, replace: Collection[str]) -> None:
    """Compare the files with what the registry has promised; bytes may differ in ``replace``."""
    unknown = sorted(set(replace) - {item.name for item in items})
    if unknown:
        raise PublishError(f"no file {unknown[0]!r} is here to replace the published one")
    differs = {}
    for item in items:
        # asked for by name, one that is not there would cost a search for similar ones
        if item.name not in registry or item.name in replace:
            continue
        digest = registry[item.name].digest
        if digest is not None and item.digest_by(digest.alg) != digest:
            actual = item.digest_by(digest.alg)
            differs[item.name] = f"the registry has {digest}, the file {actual}"
    refuse(differs, registry.file or "the registry")


_FIXED = "published bytes do not change: give new bytes a new version"


def refuse(differs: dict[str, str], where: str) -> None:
    """Raise if bytes differ from what is published; ``differs`` says what, by name."""
    if not differs:
        return
    lines = [f"  {name}: {what}" for name, what in differs.items()]
    more = [f"  … and {len(lines) - 10} more"] if len(lines) > 10 else []
    count = "1 file differs" if len(lines) == 1 else f"{len(lines)} files differ"
    raise AlreadyPublishedError(
        f"{count} from what is published at {where}:\n" + "\n".join(lines[:10] + more),
        hint=f"{_FIXED}, or name each file in replace=",
        command=f"{_FIXED}, or name each file with --replace NAME",
        names=list(differs),
    )


def compare(destination: Destination, items: Sequence[Item], replace: Collection[str]) -> Plan:
    """Compare the files with what a destination holds."""
    plan = Plan(destination)
    held = destination.held()
    here = [item for item in items if item.name in held]
    plan.has_page = destination.shows_pages and PAGE in held.keys() - {one.name for one in items}
    plan.new = [item for item in items if item.name not in held]
    threads = max(1, destination.threads)

    def difference(item: Item) -> str | None:
        return _difference(destination, item, held[item.name])

    for item, what in pool.each(difference, here, threads, ordered=True):
        if what is None:
            plan.there.append(item)
            url = held[item.name].url
            if url is not None:
                plan.urls[item.name] = url
        elif item.name in replace:
            plan.replaced.append(item)
        else:
            plan.differs[item.name] = what
    return plan


def _difference(destination: Destination, item: Item, held: Held) -> str | None:
    """Return how what is held differs from a file; None if it does not."""
    if held.size is not None and held.size != item.size:
        return f"{held.size} bytes are there, {item.size} are here"
    if destination.same(item, held) is False:
        return f"{held.digest or 'other bytes of the same size'} there, {item.digest} here"
    return None


# -- what the registry says afterwards -------------------------------------------------------------


def load_registry(file: str) -> Registry:
    """Read a registry; an empty one if there is no file yet."""
    return Registry.load(file) if os.path.exists(file) else Registry(file=file)


def merged(
    items: Iterable[Item],
    registry: Registry,
    own_urls: Mapping[str, Collection[str]],
    replaced: Collection[str],
) -> Registry:
    """Return a registry with the published files in it; what it has of other files stays.

    ``own_urls`` are by name, of files that have their own; of those ``replaced`` the old ones go.
    """
    found = dict(registry)
    for item in items:
        old = found.get(item.name)
        digest, own = item.digest, tuple(own_urls.get(item.name, ()))
        if old is not None and old.digest is not None:
            if item.digest_by(old.digest.alg) == old.digest:
                digest = old.digest  # the algorithm that its author chose
                own = (*own, *(url for url in old.urls if url not in own))
            elif item.name not in replaced:
                raise AlreadyPublishedError(
                    f"{registry.file} has got another digest of {item.name!r} meanwhile",
                    hint="somebody else publishes too; look at the registry and run again",
                    names=[item.name],
                )
        found[item.name] = Entry(item.name, digest, item.size, own)
    return Registry(found.values(), registry.file)


def merged_text(old_text: str, old: Registry, new: Registry) -> str:
    """Write a registry's text, with the lines of the old one where nothing has changed."""
    lines: list[str] = []
    facts: list[str] = []
    seen: set[str] = set()
    for line in old_text.splitlines():
        words = Registry.parse(line) if _is_entry(line) else None
        if line.lstrip().startswith("#:"):
            facts.append(line)
        elif not words:
            lines += [*facts, line]
            facts = []
        else:
            (name,) = words
            seen.add(name)
            same = new[name] == old[name]
            lines += [*facts, line] if same else Registry([new[name]]).dumps().splitlines()
            facts = []
    added = Registry(entry for name, entry in new.items() if name not in seen)
    return "".join(f"{line}\n" for line in lines + facts) + added.dumps()


def _is_entry(line: str) -> bool:
    return bool(line.strip()) and not line.lstrip().startswith("#")


def write_registry(file: str, old: Registry, new: Registry) -> bool:
    """Write a registry whole or not at all; return whether anything changed."""
    if os.path.exists(file) and dict(old) == dict(new):
        return False
    target = os.path.realpath(file)  # a link stays one
    old_text = ""
    if os.path.exists(target):
        with open(target, encoding="utf-8-sig") as source:
            old_text = source.read()
    kept = _is_ours(old_text) and sum(map(_is_entry, old_text.splitlines())) == len(old)
    content = merged_text(old_text, old, new) if kept else new.dumps()
    folder = os.path.dirname(target)
    os.makedirs(folder, exist_ok=True)
    fs.write_atomic(target, content.encode())
    _sync_folder(folder)
    return True


def _is_ours(old_text: str) -> bool:
    """Return True if a text has our format: that of ``sha256sum`` is read too, but not added to."""
    first = next(filter(_is_entry, old_text.splitlines()), "").split()
    return not first or len(first[0]) < 32 or bool(first[0].lower().strip("0123456789abcdef"))


def _sync_folder(folder: str) -> None:
    """Make a rename survive a power loss, where folders can be synced at all."""
    if fs.WINDOWS:
        return
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    except OSError:
        pass  # some network file systems refuse; the content itself is synced
    finally:
        os.close(fd)


# -- what a package says of publishing -----------------------------------------------------------


class PublishTable:
    """A package that is published: its registry file, its addresses, its table ``[publish]``."""

    def __init__(self, data: PackageData, folder: str) -> None:
        tables = config.read(os.path.join(folder, "pkgdata.toml"), TABLES)
        self._data = data
        table: dict[str, Any] = tables.get("publish", {})
        name = tables.get("package", {}).get("registry", "registry.txt")
        #: Import name.
        self.name = data.name
        self.registry_file = os.path.join(folder, name)
        self.toml = os.path.join(folder, "pkgdata.toml")
        places = (config.expand_place(one, f"{self.toml}: to") for one in table.get("to", ()))
        self.to = self._filled(places)
        #: Public addresses; none or one.
        self.urls = self._filled([table["url"]] if table.get("url") else ())
        self.public = bool(table.get("public"))
        self.index = bool(table.get("index"))
        #: What a page says of the data as a whole.
        self.about = self._about(tables.get("package", {}), table)

    def _about(self, package: Mapping[str, Any], table: Mapping[str, Any]) -> About:
        facts = {key: package[key].strip() for key in ABOUT if key in package}
        places = [*table.get("to", ()), table.get("url", "")]
        version = self._data.version if any("{version}" in one for one in places) else ""
        return About(self.name, version=version or "", **facts)

    @property
    def dataurl(self) -> list[str]:
        """Where users look for the files, with the version filled in."""
        return self._filled(self._data.dataurl)

    def _filled(self, templates: Iterable[str]) -> list[str]:
        templates = [*templates]
        version = self._data.version if any("{version}" in one for one in templates) else None
        values = {"version": version, "package": self.name}
        return [urls.expand(one, values) for one in templates]


def settings_of(package: str) -> PublishTable:
    """Return what a package says of publishing; see `find_package` for how it is named."""
    data = find_package(package)
    folder = data.package_dir
    if folder is None or not os.path.exists(os.path.join(folder, "pkgdata.toml")):
        raise ConfigError(
            f"{package!r} has no pkgdata.toml", hint="'pkgdata init' writes one for a package"
        )
    return PublishTable(data, folder)
