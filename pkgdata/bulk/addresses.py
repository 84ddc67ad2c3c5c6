"""Addresses as people write them: which store, which name in it, one object or a folder.

::

  dir/a.txt  file:///d/a.txt       files; a folder is what ends in a slash, or is one on disk
  s3://bucket/p/a.txt              an object; gs, az and mem likewise
  s3://bucket/p/  s3://bucket      a folder: all that begins with "p/", or all
  s3://bucket/p/*.txt              wildcards: * and ? within a level, ** across levels
  https://host/d/a.txt             an object; a web server lists nothing
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ..base import urls
from ..base.text import Choice
from ..errors import ConfigError, ObjectNotFoundError, UnsupportedOperationError
from ..stores import Info, Store
from ..stores.file import FileStore, TreeStore
from ..stores.naming import split_bucket
from ..stores.objects import is_marker
from ..stores.store import split

#: Schemes whose first part is a bucket, in which names are not quoted.
_BUCKETS = ("s3", "gs", "az", "mem")


class Address(NamedTuple):
    """What an argument means: a file, an object, a folder, or names with wildcards."""

    #: URL or absolute path of the store.
    base: str
    #: Of the object or folder in the store, without a closing slash; "" is the store itself.
    name: str
    #: Whether it is a folder, by its closing slash or on disk.
    folder: bool
    #: Whether it was written as the content of a folder, not the folder itself.
    slashed: bool
    #: How the folder that has the object, or the folder itself, is shown.
    shown: str
    #: Whether it is a path on this computer.
    local: bool = False
    #: Names with wildcards; ``name`` is the folder above them.
    pattern: str = ""

    def __str__(self) -> str:
        if self.pattern:
            return self.show(self.pattern)
        return self.show(self.name) + ("/" if self.folder and self.name else "")

    @property
    def prefix(self) -> str:
        """What the names in the folder begin with."""
        return f"{self.name}/" if self.name else ""

    @property
    def leaf(self) -> str:
        """The last part of the name; ``""`` for a bucket and for the content of a folder."""
        if self.local and self.folder:
            return os.path.basename(self.base)
        return self.name.rpartition("/")[2]

    @property
    def path(self) -> str:
        """The path of a local file or folder."""
        return os.path.join(self.base, self.name) if self.name else self.base

    def as_folder(self) -> Address:
        """Return a local path as a folder, whether or not it exists."""
        if not self.local or self.folder:
            return self
        return Address(self.path, "", True, True, self.show(self.name), local=True)

    def above(self) -> Address:
        """Return a local folder by its name in its parent folder."""
        if not self.local or not self.folder:
            return self
        base, name = os.path.split(self.base)
        shown = os.path.dirname(self.shown)
        return Address(base, name, self.slashed, self.slashed, shown, local=True)

    def show(self, name: str) -> str:
        """Return the address of an object of this store as it would be written."""
        if self.local:
            return os.path.join(self.shown, name) if name else self.shown
        if urls.scheme(self.base) in ("http", "https"):
            return urls.redact(urls.join(self.base, name) if name else self.base)
        return f"{self.shown}/{name}"


def parse(text: str, literal: bool = False) -> Address:
    """Read an argument; ``literal`` takes wildcards as plain characters.

    The disk is asked whether a plain path is a folder; nothing else is looked up.
    """
    kind = urls.scheme(text)
    if kind == "github":
        text = urls.canonical(text).rstrip("/")
        kind = "https"
    if kind == "file" or not kind or "://" not in text:
        return _local(text, kind)
    if kind in ("http", "https"):
        return _web(text)
    if kind in _BUCKETS:
        base, _, key = split_bucket(text)
        if base.endswith("/"):
            raise ConfigError(f"{urls.redact(text)}: expected {kind}://BUCKET/NAME")
    else:
        base, key = _mount(text)
    return at(base, key, literal)


def _local(text: str, kind: str) -> Address:
    path = text
    if kind == "file":
        found = urls.file_path(text)
        if found is None:
            raise ConfigError(
                f"{urls.redact(text)}: a file URL cannot name another host",
                hint="write file:///folder",
            )
        path = found
    if not path or "\0" in path:
        raise ConfigError(f"{text!r} is not a path")
    slashed = path.endswith(("/", os.sep)) or os.path.basename(path) in (".", "..")
    full = os.path.abspath(path)
    if slashed or os.path.isdir(full):
        shown = path.rstrip("/" + os.sep) or path
        return Address(full, "", True, slashed, shown, local=True)
    folder, name = os.path.split(full)
    return Address(folder, name, False, False, os.path.dirname(path), local=True)


def _web(text: str) -> Address:
    if text.partition("?")[0].endswith("/"):
        return Address(text, "", True, True, "")
    base, name = split(text)
    return Address(base, name, False, False, "")


def _mount(text: str) -> tuple[str, str]:
    """Cut a URL of another protocol before its last part, or before its first wildcard."""
    plain = _plain(text)
    base, slash, _ = (text.rstrip("/") if plain == text else plain).rpartition("/")
    if not slash or base.endswith(":/"):
        return text.rstrip("/"), ""
    return base, text[len(base) + 1 :]


def _plain(name: str) -> str:
    """Return what comes before the first wildcard."""
    return re.split("[*?]", name, maxsplit=1)[0]


def at(base: str, key: str, literal: bool = False) -> Address:
    """Return the address of a name, or of names with wildcards, in a store."""
    shown = urls.redact(base)
    name = key.removesuffix("/")
    if not literal and _plain(name) != name:
        folder = _plain(name).rpartition("/")[0]
        return Address(base, folder, True, True, shown, pattern=name)
    folder_written = not name or name != key
    return Address(base, name, folder_written, folder_written, shown)


class Stores:
    """The stores of one command, each opened once; the options are those of buckets alone."""

    def __init__(self, options: Mapping[str, Any] | None = None) -> None:
        self._options = options or {}
        self._stores: dict[str, Store] = {}

    def open(self, base: str) -> Store:
        """Return the store of an `Address.base`."""
        if base not in self._stores:
            cloud = urls.scheme(base) in ("s3", "gs", "az")
            self._stores[base] = Store(base, **self._options if cloud else {})
        return self._stores[base]


class Options(NamedTuple):
    """How objects are copied; the defaults are those of ``pkgdata cp``."""

    recursive: bool = False
    #: Wildcards are plain characters.
    literal: bool = False
    #: "same", "none" or the name of a compression, and its level.
    compression: str = "same"
    level: int | None = None
    #: Leave existing copies alone.
    if_absent: bool = False
    #: Remove each original once its copy is there.
    move: bool = False
    #: Worker processes.
    parallel: int = 1
    #: Engine whose workers make the copies; see `Store.transfer_to`.
    on: Any = None
    #: File that records progress, so that the copy can be resumed or shared.
    job: str | None = None
    #: Move objects even where their tags or storage class cannot be kept.
    lossy: bool = False
    #: How buckets are reached, as options of `Store`; "anonymous" is of the sources alone.
    service: Mapping[str, Any] = {}
    #: Patterns of the names that are left out, and of those alone that are taken; see `Choice`.
    exclude: Sequence[str] = ()
    include: Sequence[str] = ()

    @property
    def choice(self) -> Choice:
        """Which names are taken."""
        return Choice(self.exclude, self.include)

    @property
    def reencode(self) -> str | None:
        """The compression of the copies; None for that of the originals."""
        return None if self.compression == "same" else self.compression

    def stores(self) -> Stores:
        """Return the stores of the sources."""
        return Stores(self.service)

    def ends(self) -> Stores:
        """Return the stores of the copies."""
        return Stores({key: self.service[key] for key in self.service if key != "anonymous"})


def is_a_folder(source: Address) -> ConfigError:
    """Return the error of a folder that was given without ``-r``."""
    return ConfigError(f"{source} is a folder; nothing was done", hint="-r takes folders too")


def nothing_at(address: Address) -> ObjectNotFoundError:
    """Return the error of an address at which there is nothing."""
    return ObjectNotFoundError(f"{address}: nothing is there", url=str(address))


def is_folder(store: Store, address: Address) -> bool:
    """Return whether anything is below a name; False also where nothing can be listed."""
    if address.local:
        return address.folder
    try:
        return next(iter(store.scan(address.prefix)), None) is not None
    except (UnsupportedOperationError, ObjectNotFoundError):
        return False


def takes(choice: Choice, name: str, info: Info) -> bool:
    """Ask a choice for a listed name: what has no size may be a folder that cannot be read."""
    return choice(name if info.size is not None else f"{name}/")


def names_in(
    store: Store,
    address: Address,
    recursive: bool = True,
    flat: bool = False,
    markers: bool = False,
) -> Iterator[tuple[str, Info]]:
    """Yield the objects of a folder or those that match wildcards, in the order of the listing.

    If recursive, a wildcard that matches a folder yields all objects below it; if flat, there is
    one level only, and folders are names that end in ``/``. For `markers` see `below`.
    """
    if address.local and not os.path.isdir(address.base):
        raise ObjectNotFoundError(f"{address}: no such folder", url=address.path)
    if not address.pattern:
        yield from below(store, address.prefix, flat, markers)
        return
    wanted = compiled(address.pattern, recursive and not flat)
    start = _plain(address.pattern)
    one_level = not recursive and "/" not in address.pattern[len(start) :]
    one_level = one_level and "**" not in address.pattern
    for name, info in below(store, start, flat or one_level, markers):
        folder = one_level and info.size is None
        if wanted.fullmatch(name.removesuffix("/")) and (flat or not folder):
            yield name, info


def stored(store: Store, address: Address) -> Iterator[tuple[str, Info]]:
    """Yield an object, or all of a folder whether or not it is written with a slash."""
    if not (address.folder or address.pattern):
        try:
            yield address.name, store.stat(address.name)
            return
        except ObjectNotFoundError:
            if not is_folder(store, address):
                raise
    yield from names_in(store, address)


def below(
    store: Store, prefix: str, flat: bool = False, markers: bool = False
) -> Iterator[tuple[str, Info]]:
    """List names with a prefix, and the empty objects that stand for folders if `markers`."""
    for name, info in store.scan(prefix, flat):
        if not is_marker(name, info) or markers or (flat and name != prefix):
            yield name, info


def objects(
    stores: Stores,
    sources: Iterable[Address],
    recursive: bool = False,
    choice: Choice | None = None,
) -> Iterator[tuple[Store, str]]:
    """Yield the objects that addresses name, in their order; folders only if recursive."""
    choice = choice or Choice()
    for source in sources:
        store = stores.open(source.base)
        if source.pattern or source.folder or (recursive and is_folder(store, source)):
            if not (recursive or source.pattern):
                raise is_a_folder(source)
            count, cut = 0, len(source.prefix)
            for name, info in names_in(store, source, recursive):
                count += 1
                if takes(choice, name[cut:], info):
                    yield store, name
            if not count:
                raise ObjectNotFoundError(f"{source}: nothing matches", url=str(source))
        elif choice(source.leaf):
            yield store, source.name


def compiled(pattern: str, below: bool) -> re.Pattern[str]:
    """Return the regular expression of a name with wildcards.

    ``*`` and ``?`` stay within a level, ``**`` crosses levels; ``below`` also matches what is below
    a match.

    Examples
    --------
    >>> match = compiled("p/*.txt", False).fullmatch
    >>> bool(match("p/a.txt")), bool(match("p/q/a.txt"))
    (True, False)
    """
    words = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    parts = re.split(r"(\*\*/|\*\*|\*|\?)", pattern)
    text = "".join(words.get(part, re.escape(part)) for part in parts)
    return re.compile(text + ("(?:/.*)?" if below else ""), re.DOTALL)


# -- folders on this computer --------------------------------------------------------------------


def files_below(root: str) -> Iterator[str]:
    """Yield the path of each file and link below a folder; links are not followed."""

    def fail(error: OSError) -> None:
        raise error

    for folder, folders, files in os.walk(root, onerror=fail):
        links = [name for name in folders if os.path.islink(os.path.join(folder, name))]
        folders[:] = sorted({*folders} - {*links})  # what is removed meanwhile is not entered
        for name in sorted(files + links):
            yield os.path.join(folder, name)


def remove_empty_folders(root: str, keep: bool) -> None:
    """Remove the empty folders below a folder, and the folder itself unless it is kept."""
    for folder, _, _ in os.walk(root, topdown=False):
        if keep and folder == root:
            return
        with contextlib.suppress(OSError):  # something is left in it
            os.rmdir(folder)


def remove_empty_parents(store: FileStore | TreeStore, prefix: str, names: list[str]) -> None:
    """Remove the folders below a prefix that removed files have left empty."""
    ends = ((name, at) for name in names for at in range(len(prefix), len(name)))
    folders = {name[:at] for name, at in ends if name[at] == "/"}
    for folder in sorted(folders, key=lambda folder: -folder.count("/")):
        store.remove_folder(folder)


def remove_empty(store: FileStore | TreeStore, folder: str) -> None:
    """Remove a folder of a store, and those in it, where they are empty."""
    for name, _ in [*store.scan(f"{folder}/", flat=True)]:
        if name.endswith("/"):
            remove_empty(store, name[:-1])
    store.remove_folder(folder)
