"""``ls``, ``du``, ``rm``, ``cat``, ``head`` and ``touch``: files and objects of any store."""

from __future__ import annotations

import os
import sys

from ..base import fs
from ..base import text as _text
from ..bulk import addresses as locate
from ..bulk import planning
from ..errors import ConfigError, ObjectNotFoundError, PkgdataError
from .copying import lines, objects, say

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

    from ..bulk.addresses import Address, Stores
    from ..stores import Info, Store

#: Objects that are removed with one call.
_AT_ONCE = 1000

#: Bytes of a range that are read at a time.
_PIECE = 8 << 20


def add(commands: Any) -> None:
    """Add these commands to the parser."""
    ls = commands.add_parser("ls", help="list files and objects, with all that is below")
    _paths(ls)
    depth = ls.add_mutually_exclusive_group()
    depth.add_argument("-r", "--recursive", action="store_true", help="all levels; the default")
    depth.add_argument("--flat", action="store_true", help="one level only")
    ls.add_argument("-e", "--expr", action="store_true", help="[ab] and [0-9]{2} are expanded")
    ls.add_argument("-l", "--long", action="store_true", help="size and time of each")
    ls.add_argument("--shortpath", action="store_true", help="names without the folder's path")
    ls.add_argument("--json", action="store_true", help="for scripts; one line for each object")
    ls.set_defaults(run=_ls, usage=ls.error)

    du = commands.add_parser("du", help="count bytes as stored", add_help=False)
    du.add_argument("--help", action="help", help="show this help message and exit")
    _paths(du)
    du.add_argument("-s", "--summarize", action="store_true", help="one sum for each PATH")
    du.add_argument("-h", "--human-readable", action="store_true", help="kB, MB, GB")
    du.add_argument("-c", "--grand-total", action="store_true", help="a sum of all")
    du.add_argument("-N", "--count-files", action="store_true", help="also the number of objects")
    du.add_argument("--json", action="store_true", help="for scripts")
    du.set_defaults(run=_du, usage=du.error)

    rm = commands.add_parser("rm", help="remove files and objects")
    _paths(rm)
    rm.add_argument("-r", "--recursive", action="store_true", help="folders, too")
    rm.add_argument("-f", "--force", action="store_true", help="what is not there is no error")
    rm.add_argument("--dry-run", action="store_true", help="say what would be removed")
    rm.add_argument("--yes", action="store_true", help="empty a whole bucket")
    rm.set_defaults(run=_rm, usage=rm.error)

    cat = commands.add_parser("cat", help="write objects, decoded, to standard output")
    _paths(cat)
    cat.add_argument("-r", "--range", metavar="START-END", help="bytes from START to before END")
    cat.add_argument("--raw", action="store_true", help="bytes as they are stored")
    cat.set_defaults(run=_cat, usage=cat.error)

    head = commands.add_parser("head", help="say what is known of objects: size, type, time")
    _paths(head)
    head.add_argument("--json", action="store_true", help="for scripts")
    head.set_defaults(run=_head, usage=head.error)

    touch = commands.add_parser("touch", help="make empty objects where there are none")
    _paths(touch)
    touch.set_defaults(run=_touch, usage=touch.error)


def _paths(parser: Any) -> None:
    parser.add_argument("paths", nargs="+", metavar="PATH", help="path or URL; - reads a list")
    parser.add_argument("--anonymous", "--no-sign-request", action="store_true", help="do not sign")
    parser.add_argument("--endpoint", metavar="URL", help="of the clouds' service")
    parser.add_argument("--literal", action="store_true", help="* and ? stand for themselves")


def _addresses(args: Namespace) -> Iterator[Address]:
    """Yield what the arguments, or the lines of standard input, mean."""
    if "-" in args.paths and len(args.paths) > 1:
        args.usage("- stands alone: it reads the list of all paths")
    if args.paths == ["-"]:
        return (locate.parse(line, literal=True) for line in lines() if line)
    return iter([locate.parse(text, args.literal) for text in args.paths])


def _stores(args: Namespace) -> Stores:
    return locate.Stores(args.anonymous, args.endpoint)


# -- ls ----------------------------------------------------------------------------------------


def _ls(args: Namespace) -> int:
    stores = _stores(args)
    write = _Rows(args)
    for given in _addresses(args):
        address = given.above() if args.expr else given
        store = stores.open(address.base)
        count, cut = 0, _folder_length(address, args)
        for name, info in _listing(store, address, args):
            count += 1
            write(name[cut:] if args.shortpath else address.show(name), info)
        if not count and (address.name or address.pattern):
            write.end()
            raise _nothing(address)
    write.end()
    return 0


def _folder_length(address: Address, args: Namespace) -> int:
    """Return how much of the names is the folder that was asked for."""
    if args.expr:
        text = (address.pattern or address.name).partition("[")[0]
        return len(text.rpartition("/")[0]) + ("/" in text)
    if address.folder or address.pattern:
        return len(address.prefix)
    return len(address.name.rpartition("/")[0]) + ("/" in address.name)


def _nothing(address: Address) -> ObjectNotFoundError:
    return ObjectNotFoundError(f"{address}: nothing is there", url=str(address))


def _listing(store: Store, address: Address, args: Namespace) -> Iterator[tuple[str, Info]]:
    if args.expr and address.name:
        yield from _expanded(store, address, args)
    elif address.folder or address.pattern:
        yield from locate.names_in(store, address, recursive=False, flat=args.flat)
    elif address.local:
        yield address.name, store.stat(address.name)
    else:  # any beginning of names, as the services list them
        yield from locate.below(store, address.name, args.flat)


def _expanded(store: Store, address: Address, args: Namespace) -> Iterator[tuple[str, Info]]:
    from ..stores.naming import expand_brackets

    for text in expand_brackets(address.pattern or address.prefix.rstrip("/")):
        one = locate.at(address.base, text, args.literal)
        if one.pattern:
            yield from locate.names_in(store, one, recursive=False, flat=args.flat)
        else:
            yield from locate.below(store, text + "/" * address.slashed, args.flat)


class _Rows:
    """Writes a listing as it comes."""

    def __init__(self, args: Namespace) -> None:
        self._json, self._long = args.json, args.long
        self._count = 0

    def __call__(self, name: str, info: Info) -> None:
        if self._json:
            print("[" if not self._count else ",")
            print(_json_row(name, info), end="")
        elif self._long:
            size = "-" if info.size is None else str(info.size)
            say(f"{size:>13}  {_time(info.modified):16}  {name}")
        else:
            say(name)
        self._count += 1

    def end(self) -> None:
        """Close the list."""
        if self._json:
            print("\n]" if self._count else "[]")


def _json_row(name: str, info: Info) -> str:
    import json

    digest = None if info.digest is None else str(info.digest)
    row = {"name": name, "size": info.size, "modified": info.modified, "digest": digest}
    return json.dumps(row, ensure_ascii=False)


def _time(seconds: float | None) -> str:
    import datetime

    if seconds is None:
        return "-"
    return datetime.datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M")


# -- du ----------------------------------------------------------------------------------------


def _du(args: Namespace) -> int:
    stores = _stores(args)
    shown: Callable[[int], str] = _text.size if args.human_readable else str
    sums: list[dict[str, Any]] = []
    for address in _addresses(args):
        count = total = 0
        for name, info in _below(stores.open(address.base), address):
            count += 1
            total += info.size or 0
            if not (args.summarize or args.json):
                say(f"{shown(info.size or 0)}\t{address.show(name)}")
        if not count and (address.name or address.pattern):
            raise _nothing(address)
        sums.append({"path": str(address), "bytes": total, "objects": count})
        if args.summarize and not args.json:
            say(f"{shown(total)}\t{address}")
    total = sum(row["bytes"] for row in sums)
    count = sum(row["objects"] for row in sums)
    if args.json:
        _text.json({"paths": sums, "bytes": total, "objects": count})
        return 0
    if args.grand_total:
        print(f"{shown(total)}\ttotal")
    if args.count_files:
        print(f"{count}\tobjects")
    return 0


def _below(store: Store, address: Address) -> Iterator[tuple[str, Info]]:
    """Yield an object, or all of a folder whether or not it is written with a slash."""
    if not (address.folder or address.pattern):
        try:
            yield address.name, store.stat(address.name)
            return
        except ObjectNotFoundError:
            if not locate.is_folder(store, address):
                raise
    yield from locate.names_in(store, address)


# -- rm ----------------------------------------------------------------------------------------


def _rm(args: Namespace) -> int:
    removal = _Removal(_stores(args), args)
    for address in _addresses(args):
        try:
            removal.add(address)
        except (PkgdataError, OSError) as error:
            removal.fail(error)
    removal.flush()
    return removal.end()


class _Removal:
    """Removes what it is told of, many objects with one request."""

    def __init__(self, stores: Stores, args: Namespace) -> None:
        self._stores, self._args = stores, args
        self._is_list = args.paths == ["-"]
        self._waiting: dict[str, list[str]] = {}
        self._count = self._failed = 0

    def add(self, address: Address) -> None:
        """Remove what an address means, now or with the others."""
        args = self._args
        if address.local and (not address.folder or os.path.islink(address.path)):
            self._file(address)
        elif address.local and self._is_list:
            return  # a list of files names their folders, too
        elif address.local:
            self._tree(address)
        elif address.pattern:
            self._many(address, locate.names_in(self._store(address), address, args.recursive))
        elif address.folder or self._stands_for_a_folder(address):
            self._folder(address)
        else:
            self._object(address)

    def _store(self, address: Address) -> Store:
        return self._stores.open(address.base)

    def _stands_for_a_folder(self, address: Address) -> bool:
        return bool(self._args.recursive) and locate.is_folder(self._store(address), address)

    def _file(self, address: Address) -> None:
        if not os.path.lexists(address.path):
            if not (self._args.force or self._is_list):
                raise ObjectNotFoundError(f"{address}: no such file", url=address.path)
            return
        self._told(str(address))
        if not self._args.dry_run:
            fs.remove(address.path)

    def _tree(self, address: Address) -> None:
        """Remove a folder of this computer; what links lead to stays."""
        if not self._args.recursive:
            raise planning.is_a_folder(address)
        if (
            os.path.basename(address.shown) in (".", "..")
            or os.path.dirname(address.base) == address.base
        ):
            raise ConfigError(f"{address}: refused to remove this folder")
        if not os.path.isdir(address.base):
            if self._args.force:
                return
            raise ObjectNotFoundError(f"{address}: no such folder", url=address.path)
        for path in planning.files_below(address.base):
            self._told(address.show(os.path.relpath(path, address.base)))
        if not self._args.dry_run:
            fs.remove_tree(address.base)

    def _folder(self, address: Address) -> None:
        if not self._args.recursive:
            raise planning.is_a_folder(address)
        if not address.name and not (self._args.yes or self._args.dry_run):
            raise ConfigError(
                f"{address} is a whole bucket; nothing of it was removed",
                hint="--yes, if all of it is to be removed",
            )
        self._many(address, locate.names_in(self._store(address), address))

    def _many(self, address: Address, found: Iterable[tuple[str, Info]]) -> None:
        count = 0
        for name, _ in found:
            count += 1
            self._later(address, name)
        if not count and not self._args.force:
            raise _nothing(address)

    def _object(self, address: Address) -> None:
        quiet = self._args.force or self._is_list
        # where it may be missing, to ask would only cost a request; removing it is no error
        asked = self._args.dry_run or not quiet
        if asked and not self._store(address).exists(address.name):
            if quiet:
                return
            raise ObjectNotFoundError(f"{address}: no such object", url=str(address))
        self._later(address, address.name)

    def _later(self, address: Address, name: str) -> None:
        self._told(address.show(name))
        waiting = self._waiting.setdefault(address.base, [])
        waiting.append(name)
        if len(waiting) >= _AT_ONCE:
            self.flush()

    def _told(self, name: str) -> None:
        self._count += 1
        if self._args.dry_run:
            say(name)

    def flush(self) -> None:
        """Remove what waits."""
        for base, names in self._waiting.items():
            if names and not self._args.dry_run:
                try:
                    self._stores.open(base).remove_many(names)
                except PkgdataError as error:
                    self._count -= len(names)
                    self.fail(error)
        self._waiting.clear()

    def fail(self, error: Exception) -> None:
        """Tell of a failure, and go on."""
        self._failed += 1
        print(f"pkgdata: error: {error}", file=sys.stderr)

    def end(self) -> int:
        """Tell how many were removed.

        Returns
        -------
        int
            The exit code.
        """
        verb = "would be removed" if self._args.dry_run else "removed"
        if self._count or not self._failed:
            print(f"{self._count} {verb}", file=sys.stderr)
        return 1 if self._failed else 0


# -- cat, head, touch --------------------------------------------------------------------------


def _cat(args: Namespace) -> int:
    stores = _stores(args)
    span = _span(args)
    addresses = _addresses(args)
    for store, name in objects(stores, addresses, recursive=False):
        if span is not None:
            blocks: Iterator[Any] = _range(store, name, *span, raw=args.raw)
        else:
            blocks = store.blocks(name) if args.raw else store.cat(name)
        for block in blocks:
            sys.stdout.buffer.write(block)
    sys.stdout.buffer.flush()
    return 0


def _span(args: Namespace) -> tuple[int, int | None] | None:
    if args.range is None:
        return None
    start, dash, stop = args.range.partition("-")
    good = dash and all(not text or (text.isascii() and text.isdigit()) for text in (start, stop))
    if not good or args.range == "-":
        args.usage(f"--range {args.range}: expected START-END, START- or -END")
    if len(args.paths) > 1 or args.paths == ["-"]:
        args.usage("--range goes with one PATH")
    return int(start or 0), int(stop) if stop else None


def _range(store: Store, name: str, start: int, stop: int | None, raw: bool) -> Iterator[bytes]:
    """Read a range piece by piece."""
    while stop is None or start < stop:
        end = start + _PIECE if stop is None else min(stop, start + _PIECE)
        piece: bytes = store.get(name, start=start, stop=end, raw=raw)
        yield piece
        if len(piece) < end - start:
            return
        start = end


def _head(args: Namespace) -> int:
    stores = _stores(args)
    found: dict[str, dict[str, Any] | None] = {}
    missing = 0
    for store, name, shown in _named(stores, args):
        try:
            found[shown] = _headers(store.stat(name))
        except ObjectNotFoundError as error:
            found[shown] = None
            missing += 1
            if not args.json:
                print(f"pkgdata: error: {error}", file=sys.stderr)
    if args.json:
        _text.json(found)
    else:
        _print_headers({shown: headers for shown, headers in found.items() if headers}, args)
    return 1 if missing else 0


def _named(stores: Stores, args: Namespace) -> Iterator[tuple[Store, str, str]]:
    for address in _addresses(args):
        store = stores.open(address.base)
        if address.pattern:
            for name, _ in locate.names_in(store, address, recursive=False):
                yield store, name, address.show(name)
        elif address.folder:
            raise ConfigError(f"{address} is a folder; head takes objects")
        else:
            yield store, address.name, str(address)


def _headers(info: Info) -> dict[str, Any]:
    """Return what is known of an object by the names of HTTP's headers."""
    from email.utils import formatdate

    kept = info.attributes
    modified = None if info.modified is None else formatdate(info.modified, usegmt=True)
    found = {
        "Content-Length": info.size,
        "Content-Type": kept.content_type,
        "Content-Encoding": kept.encoding,
        "Cache-Control": kept.cache_control,
        "Last-Modified": modified,
        "ETag": info.validator,
        "Digest": None if info.digest is None else str(info.digest),
        "Storage-Class": kept.storage_class,
    }
    found |= {f"Metadata-{key}": value for key, value in kept.metadata.items()}
    return {name: value for name, value in found.items() if value is not None}


def _print_headers(found: dict[str, dict[str, Any]], args: Namespace) -> None:
    alone = len(args.paths) == 1 and len(found) == 1
    for shown, headers in found.items():
        if not alone:
            say(shown)
        for name, value in headers.items():
            say(f"{'' if alone else '  '}{name}: {value}")


def _touch(args: Namespace) -> int:
    stores = _stores(args)
    args.literal = True
    by_base: dict[str, list[str]] = {}
    for address in _addresses(args):
        if address.folder:
            raise ConfigError(f"{address} is a folder; touch makes objects")
        by_base.setdefault(address.base, []).append(address.name)
    for base, names in by_base.items():
        stores.open(base).touch(names)
    return 0
