"""``ls``, ``du``, ``rm``, ``cat``, ``head`` and ``touch``: files and objects of any store."""

from __future__ import annotations

import datetime
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from email.utils import formatdate
from typing import Any

from ..base import text
from ..bulk import addresses
from ..bulk.addresses import Address, Stores, objects, stored
from ..bulk.commands import Removal
from ..errors import ConfigError, ObjectNotFoundError
from ..stores import Info, Store
from ..stores.naming import expand_brackets

#: Bytes of a range that are read at a time.
_PIECE = 8 << 20

_UPLOADS = "S3: unfinished uploads, which killed processes leave, instead of objects"


def add(commands: Any) -> None:
    """Add these commands to the parser."""
    ls = text.command(commands, "ls", _ls, "list files and objects")
    _paths(ls)
    depth = ls.add_mutually_exclusive_group()
    depth.add_argument("-r", "--recursive", action="store_true", help="all levels (the default)")
    depth.add_argument("--flat", action="store_true", help="one level only")
    ls.add_argument("-e", "--expr", action="store_true", help="expand [ab] and [0-9]{2}")
    ls.add_argument("-l", "--long", action="store_true", help="print the size and time of each")
    ls.add_argument("--shortpath", action="store_true", help="print names relative to the folder")
    ls.add_argument(
        "-a", "--all", action="store_true", help="files that are being written, or never were, too"
    )
    ls.add_argument("--uploads", action="store_true", help=_UPLOADS)
    ls.add_argument("--json", action="store_true", help="for scripts; one line for each object")

    du = text.command(commands, "du", _du, "count the bytes of files and objects", add_help=False)
    _paths(du)
    du.add_argument("-s", "--summarize", action="store_true", help="print one sum for each PATH")
    du.add_argument("-h", "--human-readable", action="store_true", help="print kB, MB, GB")
    du.add_argument("-c", "--grand-total", action="store_true", help="print the sum of all")
    du.add_argument(
        "-N", "--count-files", action="store_true", help="print the number of objects, too"
    )
    text.add_json(du)

    rm = text.command(commands, "rm", _rm, "remove files and objects")
    _paths(rm)
    rm.add_argument("-r", "--recursive", action="store_true", help="include folders")
    rm.add_argument("-f", "--force", action="store_true", help="a missing object is no error")
    rm.add_argument("--dry-run", action="store_true", help="print what would be removed")
    rm.add_argument("--uploads", action="store_true", help=_UPLOADS)
    rm.add_argument("--yes", action="store_true", help="with -r: empty a whole bucket, unasked")
    text.add_choice(rm, removes=True)

    cat = text.command(commands, "cat", _cat, "print the contents of objects")
    _paths(cat)
    cat.add_argument("-r", "--range", metavar="START-END", help="bytes from START to before END")
    cat.add_argument("--raw", action="store_true", help="print bytes as they are stored")

    head = text.command(commands, "head", _head, "print the size, type and time of objects")
    _paths(head)
    text.add_json(head)

    touch = text.command(commands, "touch", _touch, "make empty objects")
    _paths(touch)


def _paths(parser: Any) -> None:
    parser.add_argument("paths", nargs="+", metavar="PATH", help="path or URL; - reads a list")
    text.add_null(parser)
    parser.add_argument("--literal", action="store_true", help="* and ? are plain characters")
    text.add_service(parser)


def _addresses(args: Namespace) -> Iterator[Address]:
    """Yield what the arguments, or the lines of standard input, mean."""
    if "-" in args.paths and len(args.paths) > 1:
        args.usage("- must be the only PATH: it reads the list of all paths")
    if args.paths == ["-"]:
        lines = text.lines(args.null)
        return (addresses.parse(line, literal=True) for line in lines if line)
    return iter([addresses.parse(path, args.literal) for path in args.paths])


def _stores(args: Namespace) -> Stores:
    return addresses.Stores(text.service(args))


# -- ls ----------------------------------------------------------------------------------------


def _ls(args: Namespace) -> None:
    stores = _stores(args)
    write = _Rows(args)
    if args.uploads:
        for _, address, name, _, began in _uploads(stores, args):
            cut = _folder_length(address, args)
            write(name[cut:] if args.shortpath else address.show(name), Info(None, modified=began))
        write.end()
        return
    for given in _addresses(args):
        address = given.above() if args.expr else given
        store = stores.open(address.base)
        store.shows_unfinished = args.all
        count, cut = 0, _folder_length(address, args)
        for name, info in _listing(store, address, args):
            count += 1
            write(name[cut:] if args.shortpath else address.show(name), info)
        if not count and (address.name or address.pattern):
            write.end()
            raise addresses.nothing_at(address)
    write.end()


def _uploads(stores: Stores, args: Namespace) -> Iterator[tuple[Any, Address, str, str, float]]:
    """Yield unfinished uploads: store, address, name, identifier, when each began."""
    for address in _addresses(args):
        store: Any = stores.open(address.base)
        if not hasattr(store, "uploads"):
            raise ConfigError(f"{address}: only buckets have unfinished uploads")
        wanted = addresses.compiled(address.pattern, below=True) if address.pattern else None
        for name, upload, began in store.uploads(address.prefix if wanted else address.name):
            inside = f"{name}/".startswith(address.prefix)
            if wanted.fullmatch(name) if wanted else inside:
                yield store, address, name, upload, began


def _rm_uploads(args: Namespace) -> int:
    count = 0
    for store, address, name, upload, _ in _uploads(_stores(args), args):
        if name != address.name and not (args.recursive or address.pattern):
            raise ConfigError(
                f"{address} is a folder; nothing was removed", hint="-r takes folders"
            )
        count += 1
        if args.dry_run:
            text.say(address.show(name))
        else:
            store.abort(name, upload)
    text.note(text.counted(count, "upload") + (" would be" if args.dry_run else "") + " removed")
    return 0


def _folder_length(address: Address, args: Namespace) -> int:
    """Return how much of the names is the folder that was asked for."""
    if args.expr:
        plain = (address.pattern or address.name).partition("[")[0]
        return len(plain.rpartition("/")[0]) + ("/" in plain)
    if address.folder or address.pattern:
        return len(address.prefix)
    return len(address.name.rpartition("/")[0]) + ("/" in address.name)


def _listing(store: Store, address: Address, args: Namespace) -> Iterator[tuple[str, Info]]:
    if args.expr and address.name:
        yield from _expanded(store, address, args)
    elif address.folder or address.pattern:
        yield from addresses.names_in(store, address, recursive=False, flat=args.flat, markers=True)
    elif address.local:
        yield address.name, store.stat(address.name)
    else:  # any beginning of names, as the services list them
        yield from addresses.below(store, address.name, args.flat, markers=True)


def _expanded(store: Store, address: Address, args: Namespace) -> Iterator[tuple[str, Info]]:
    for written in expand_brackets(address.pattern or address.prefix.rstrip("/")):
        one = addresses.at(address.base, written, args.literal)
        if one.pattern:
            yield from addresses.names_in(store, one, recursive=False, flat=args.flat, markers=True)
        else:
            yield from addresses.below(store, written + "/" * address.slashed, args.flat, True)


class _Rows:
    """Writes a listing while it is read."""

    def __init__(self, args: Namespace) -> None:
        self._json, self._long = args.json, args.long
        self._count = 0

    def __call__(self, name: str, info: Info) -> None:
        if self._json:
            digest = None if info.digest is None else str(info.digest)
            row = {"name": name, "size": info.size, "modified": info.modified, "digest": digest}
            print("," if self._count else "[")
            print(text.as_json(row), end="")
        elif self._long:
            size, when = "-" if info.size is None else str(info.size), "-"
            if info.modified is not None:
                when = f"{datetime.datetime.fromtimestamp(info.modified):%Y-%m-%d %H:%M}"
            text.say(f"{size:>13}  {when:16}  {name}")
        else:
            text.say(name)
        self._count += 1

    def end(self) -> None:
        """Close the list."""
        if self._json:
            print("\n]" if self._count else "[]")


# -- du ----------------------------------------------------------------------------------------


def _du(args: Namespace) -> None:
    stores = _stores(args)
    shown: Callable[[int], str] = text.size if args.human_readable else str
    sums: list[dict[str, Any]] = []
    for address in _addresses(args):
        count = total = 0
        for name, info in stored(stores.open(address.base), address):
            count += 1
            total += info.size or 0
            if not (args.summarize or args.json):
                text.say(f"{shown(info.size or 0)}\t{address.show(name)}")
        if not count and (address.name or address.pattern):
            raise addresses.nothing_at(address)
        sums.append({"path": str(address), "bytes": total, "objects": count})
        if args.summarize and not args.json:
            text.say(f"{shown(total)}\t{address}")
    total = sum(row["bytes"] for row in sums)
    count = sum(row["objects"] for row in sums)
    if args.json:
        text.json({"paths": sums, "bytes": total, "objects": count})
        return
    if args.grand_total:
        print(f"{shown(total)}\ttotal")
    if args.count_files:
        print(f"{count}\tobjects")


# -- rm ----------------------------------------------------------------------------------------


def _rm(args: Namespace) -> int:
    if args.uploads:
        return _rm_uploads(args)

    def report(name: str, error: Exception | None) -> None:
        if error is not None:
            text.error(str(error))
        elif args.dry_run:
            text.say(name)

    def whole(address: Address) -> bool:
        asked = sys.stdin.isatty() and not args.yes
        return args.yes or (asked and text.ask(f"Remove everything in {address}?") == 0)

    began = time.monotonic()
    removal = Removal(
        _stores(args),
        report,
        recursive=args.recursive,
        force=args.force,
        whole=whole,
        dry_run=args.dry_run,
        listed=args.paths == ["-"],
        exclude=args.exclude,
        include=args.include,
        max_delete=args.max_delete,
    )
    tally = removal.run(_addresses(args))
    verb = "removed"
    if args.dry_run:
        verb = "would be removed"
    elif removal.unasked:
        verb = "removed, or were not there"
    if tally.removed or not tally.failed:
        took = None if args.dry_run else time.monotonic() - began
        text.note(text.closing(verb, tally.removed, noun="", took=took, failed=tally.failed))
    return 1 if tally.failed else 0


# -- cat, head, touch --------------------------------------------------------------------------


def _cat(args: Namespace) -> None:
    stores = _stores(args)
    span = _span(args)
    for store, name in objects(stores, _addresses(args)):
        if span is not None:
            blocks: Iterator[Any] = _range(store, name, *span, raw=args.raw)
        else:
            blocks = store.blocks(name) if args.raw else store.cat(name)
        for block in blocks:
            sys.stdout.buffer.write(block)
    sys.stdout.buffer.flush()


def _span(args: Namespace) -> tuple[int, int | None] | None:
    if args.range is None:
        return None
    start, dash, stop = args.range.partition("-")
    good = dash and all(not end or (end.isascii() and end.isdigit()) for end in (start, stop))
    if not good or args.range == "-":
        args.usage(f"--range {args.range}: expected START-END, START- or -END")
    if len(args.paths) > 1 or args.paths == ["-"]:
        args.usage("--range goes with one PATH")
    return int(start or 0), int(stop) if stop else None


def _range(store: Store, name: str, start: int, stop: int | None, raw: bool) -> Iterator[bytes]:
    """Read a range in pieces."""
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
                text.error(str(error))
    if args.json:
        text.json(found)
    else:
        _print_headers({shown: headers for shown, headers in found.items() if headers}, args)
    return 1 if missing else 0


def _named(stores: Stores, args: Namespace) -> Iterator[tuple[Store, str, str]]:
    for address in _addresses(args):
        store = stores.open(address.base)
        if address.pattern:
            for name, _ in addresses.names_in(store, address, recursive=False):
                yield store, name, address.show(name)
        elif address.folder:
            raise ConfigError(f"{address} is a folder; head takes objects")
        else:
            yield store, address.name, str(address)


def _headers(info: Info) -> dict[str, Any]:
    """Return what is known about an object, under the names of HTTP headers."""
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
            text.say(shown)
        for name, value in headers.items():
            text.say(f"{'' if alone else '  '}{name}: {value}")


def _touch(args: Namespace) -> None:
    stores = _stores(args)
    args.literal = True
    by_base: dict[str, list[str]] = {}
    for address in _addresses(args):
        if address.folder:
            raise ConfigError(f"{address} is a folder; touch makes objects")
        by_base.setdefault(address.base, []).append(address.name)
    for base, names in by_base.items():
        stores.open(base).touch(names)
