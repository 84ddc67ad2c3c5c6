"""``cp``, ``mv`` and ``sync``."""

from __future__ import annotations

import os
import sys

from ..base import text as _text
from ..base.config import conf
from ..base.progress import Bar, wanted
from ..bulk import addresses, planning
from ..errors import ConfigError, ObjectNotFoundError, PkgdataError
from ..stores import codecs
from ..stores.copying import Copied, copies, job_copies
from ..stores.store import Watch
from .timeline import Timeline

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterable, Iterator
    from typing import Any

    from ..base.progress import Callback
    from ..bulk.addresses import Address, Stores
    from ..bulk.planning import Target, Unit
    from ..stores.copying import Item

#: Failures that are told one by one.
_MOST_TOLD = 10


def add(commands: Any) -> None:
    """Add these commands to the parser."""
    cp = commands.add_parser("cp", help="copy files and objects, local and cloud mixed")
    _sources(cp, "-r")
    cp.add_argument(
        "-c",
        "--compression",
        choices=["same", "none", "gzip", "br", "zstd"],
        default="same",
        help="how the copies are stored compressed; default: same",
    )
    cp.add_argument("--level", type=int, metavar="N", help="of the compression")
    cp.add_argument("--anonymous", "--no-sign-request", action="store_true", help=_ANONYMOUS)
    cp.add_argument("--job", metavar="FILE", help="keep count there: resumable, and shared")
    cp.add_argument("--timeline", metavar="FILE.svg", help="draw when each was in flight")
    _common(cp)
    cp.set_defaults(run=_cp, usage=cp.error)

    mv = commands.add_parser("mv", help="move files and objects: copy, then remove the original")
    _sources(mv, "-r")
    _common(mv)
    mv.set_defaults(
        run=_mv, usage=mv.error, compression="same", level=None, anonymous=False, job=None
    )
    mv.set_defaults(timeline=None)

    sync = commands.add_parser("sync", help="copy what is missing in a folder, or differs there")
    sync.add_argument("source", metavar="SRC", help="folder or prefix")
    sync.add_argument("destination", metavar="DST", help="folder or prefix")
    sync.add_argument("--delete", action="store_true", help="remove what SRC does not have")
    sync.add_argument("--allow-empty", action="store_true", help="--delete even if SRC is empty")
    sync.add_argument("--checksum", action="store_true", help="compare digests; reads files")
    sync.add_argument("--size-only", action="store_true", help="what has the same size is the same")
    sync.add_argument("--check", action="store_true", help="like --dry-run; exit 3 if they differ")
    sync.add_argument("--anonymous", "--no-sign-request", action="store_true", help=_ANONYMOUS)
    _common(sync)
    sync.set_defaults(run=_sync, usage=sync.error)


_ANONYMOUS = "read the source without credentials"


def _sources(parser: Any, recursive: str) -> None:
    parser.add_argument("sources", nargs="+", metavar="SRC", help="- reads a list of them")
    parser.add_argument("destination", metavar="DST", help="- is standard output")
    parser.add_argument(recursive, "--recursive", action="store_true", help="folders, too")
    parser.add_argument(
        "-n",
        "--no-clobber",
        "--if-absent",
        dest="if_absent",
        action="store_true",
        help="leave alone what is there",
    )
    parser.add_argument("--base", metavar="DIR", help="with -: names are relative to it")
    parser.add_argument("--literal", action="store_true", help="* and ? stand for themselves")


def _common(parser: Any) -> None:
    import argparse

    parser.add_argument("--endpoint", metavar="URL", help="of the clouds' service")
    parser.add_argument("-p", "--parallel", type=int, default=1, metavar="N", help="processes")
    parser.add_argument("--progress", action=argparse.BooleanOptionalAction, help="draw a bar")
    parser.add_argument("--dry-run", action="store_true", help="say what would be done")


# -- cp and mv ---------------------------------------------------------------------------------


def _cp(args: Namespace) -> int:
    _check(args)
    path = args.destination
    if path == "-":
        return _to_stream(args, sys.stdout.buffer)
    # a standard stream may be a plain file, which is to be written on and not replaced
    if path.startswith(("/dev/stdout", "/dev/stderr", "/dev/fd/")) or planning.is_special(path):
        with open(path, "wb") as file:
            return _to_stream(args, file)
    return _carry(args, move=False)


def _mv(args: Namespace) -> int:
    _check(args)
    if args.destination == "-" or planning.is_special(args.destination):
        args.usage("mv has no standard output as destination; cp has")
    return _carry(args, move=True)


def _check(args: Namespace) -> None:
    """Refuse options that contradict each other; ends the process."""
    if "-" in args.sources and len(args.sources) > 1:
        args.usage("- stands alone: it reads the list of all sources")
    if args.base is not None and args.sources != ["-"]:
        args.usage("--base is for a list of sources (-)")
    if args.job and (len(args.sources) > 1 or args.dry_run):
        args.usage("--job takes one source and no --dry-run")
    if args.destination == "-" and (
        args.compression not in ("same", "none")
        or any((args.job, args.timeline, args.dry_run, args.if_absent))
    ):
        args.usage("what goes to standard output is decoded, and takes none of these options")


def _carry(args: Namespace, move: bool) -> int:
    codecs.encode(b"", None if args.compression == "same" else args.compression)  # have we it?
    tally = Tally("moved" if move else "copied")
    stores = addresses.Stores(args.anonymous, args.endpoint)
    to, units = _plan(args, stores, move)
    items = _items(units, to, args, tally, move)
    if args.dry_run:
        return _dry_run(items, units, to, args)
    for unit in units:
        if unit.stream:
            _from_stream(unit, to, args)
    if any(not unit.stream for unit in units):
        _copy(items, units, to, args, tally, move)
    if move and not tally.failed:
        for unit in units:
            if unit.address.local and unit.address.folder and not _is_list(args):
                planning.remove_empty_folders(unit.address.base, keep=unit.address.slashed)
    return tally.end(single=all(unit.single for unit in units) and len(units) == 1)


def _is_list(args: Namespace) -> bool:
    return bool(args.sources == ["-"])


def _plan(args: Namespace, stores: Stores, move: bool) -> tuple[Target, list[Unit]]:
    """Work out the destination and what comes there."""
    ends = addresses.Stores(None, args.endpoint)
    if _is_list(args):
        to = planning.target(ends, args.destination, many=False, always_folder=True)
        return to, [planning.listed(stores, lines(), to, args.base)]
    sources = [addresses.parse(text, args.literal) for text in args.sources]
    wild = any(source.pattern for source in sources)
    to = planning.target(ends, args.destination, len(sources) > 1, wild and len(sources) == 1)
    same = args.compression != "same"
    return to, planning.units(
        stores, sources, to, recursive=args.recursive, folders=move, same=same
    )


def _items(
    units: list[Unit], to: Target, args: Namespace, tally: Tally, move: bool
) -> Iterator[Item]:
    found = (item for unit in units if not unit.stream for item in unit.items)
    return planning.checked(
        found,
        to,
        tally.refuse,
        several=len(units) > 1,
        same=args.compression != "same",
        move=move,
    )


def _dry_run(items: Iterable[Item], units: list[Unit], to: Target, args: Namespace) -> int:
    shown = {id(unit.store): unit.address for unit in units}
    for store, name, new in items:
        if not (args.if_absent and to.store.exists(new)):
            say(f"{shown[id(store)].show(name)} -> {to.address.show(new)}")
    return 0


def _copy(
    items: Iterable[Item],
    units: list[Unit],
    to: Target,
    args: Namespace,
    tally: Tally,
    move: bool,
) -> None:
    shown = wanted(conf.progress if args.progress is None else args.progress)
    bar = Bar(tally.verb, shown=shown, delay=0 if args.progress else 0.5)
    timeline = Timeline(bar) if args.timeline else None
    afterwards = timeline if processes(args) > 1 else None
    callback: Callback = timeline if timeline and not afterwards else bar
    options: dict[str, Any] = {
        "reencode": None if args.compression == "same" else args.compression,
        "level": args.level,
        "replace": not args.if_absent,
        "move": move,
        "parallel": processes(args),
        "threads": _threads(units, to),
        "by_target": True,
    }
    try:
        for copied in _run(items, units, to, args, callback, options):
            if afterwards:
                afterwards.add(copied)
            tally.add(copied, _explained(copied, units))
    finally:
        bar.close()
        if timeline:
            timeline.write(args.timeline)


def _run(
    items: Iterable[Item],
    units: list[Unit],
    to: Target,
    args: Namespace,
    callback: Callback,
    options: dict[str, Any],
) -> Iterator[Copied]:
    if not args.job:
        return copies(items, to.store, watch=Watch(callback), **options)
    ends = [end.path if end.local else str(end) for end in (units[0].address, to.address)]
    words = " ".join([*ends, args.compression, *(["if absent"] if args.if_absent else [])])
    pairs = ((name, new) for _, name, new in items)
    return job_copies(units[0].store, to.store, pairs, args.job, words, callback, **options)


def _threads(units: list[Unit], to: Target) -> int:
    """Return how many copies run at once: as many as the services take; a disk takes any number."""
    ends = [(unit.store, unit.address.local) for unit in units] + [(to.store, to.local)]
    remote = [store.threads for store, local in ends if not local]
    if not remote and all(unit.single for unit in units) and len(units) == 1:
        return 1  # without a thread, Ctrl-C clears up in the midst of a file
    return min(remote) if remote else to.store.threads


def _explained(copied: Copied, units: list[Unit]) -> Exception | None:
    """Return a copy's error, in better words where the source is a folder."""
    error = copied.error
    if isinstance(error, ObjectNotFoundError):
        for unit in units:
            named = unit.single and unit.address.name == copied.name
            if named and addresses.is_folder(unit.store, unit.address):
                return planning.is_a_folder(unit.address)
    return error


def _from_stream(unit: Unit, to: Target, args: Namespace) -> None:
    """Copy a pipe, which has no size and can be read once only."""
    compress = None if args.compression == "same" else codecs.canonical(args.compression)
    for _, _, new in unit.items:
        with open(unit.address.path, "rb") as file:
            to.store.put(
                new, file, compress=compress, level=args.level, if_absent=bool(args.if_absent)
            )


def _to_stream(args: Namespace, out: Any) -> int:
    stores = addresses.Stores(args.anonymous, args.endpoint)
    if _is_list(args):
        found = planning.listed(stores, lines(), None, args.base).items
        pairs: Iterable[tuple[Any, str]] = ((store, name) for store, name, _ in found)
    else:
        sources = [addresses.parse(text, args.literal) for text in args.sources]
        pairs = objects(stores, sources, args.recursive)
    for store, name in pairs:
        for block in store.cat(name):
            out.write(block)
    out.flush()
    return 0


def objects(
    stores: Stores, sources: Iterable[Address], recursive: bool
) -> Iterator[tuple[Any, str]]:
    """Yield the objects that arguments name, in their order.

    Parameters
    ----------
    recursive : bool
        Whether folders are taken.
    """
    for source in sources:
        store = stores.open(source.base)
        if source.pattern or source.folder or (recursive and addresses.is_folder(store, source)):
            if not (recursive or source.pattern):
                raise planning.is_a_folder(source)
            count = 0
            for name, _ in addresses.names_in(store, source, recursive):
                count += 1
                yield store, name
            if not count:
                raise ObjectNotFoundError(f"{source}: nothing matches", url=str(source))
        else:
            yield store, source.name


def lines() -> Iterator[str]:
    """Yield the lines of standard input: paths or URLs."""
    for line in sys.stdin.buffer:
        yield os.fsdecode(line.rstrip(b"\r\n"))


def processes(args: Namespace) -> int:
    """Return how many worker processes are wanted.

    Returns
    -------
    int
        1 means none besides this one; what was asked for below 1 means one for each processor.
    """
    return args.parallel if args.parallel > 0 else os.cpu_count() or 1


# -- sync --------------------------------------------------------------------------------------


def _sync(args: Namespace) -> int:
    if args.size_only and args.checksum:
        args.usage("--size-only and --checksum exclude each other")
    if args.allow_empty and not args.delete:
        args.usage("--allow-empty belongs to --delete")
    source, to = _two_folders(args)
    store = addresses.Stores(args.anonymous, args.endpoint).open(source.base)
    comparison = planning.Comparison(
        store, source.prefix, to.store, to.address.prefix, args.checksum, args.size_only
    )
    unit = planning.Unit(store, source, iter(()))
    doomed: list[str] = []
    changes = _wanted(comparison, doomed, args.delete)
    if args.dry_run or args.check:
        return _tell_plan(comparison, changes, doomed, source, to, args)
    tally = Tally("copied")
    items = ((store, source.prefix + c.name, to.address.prefix + c.name) for c in changes)
    args.compression, args.level, args.if_absent, args.job, args.timeline = (
        "same",
        None,
        False,
        None,
        None,
    )
    _copy(items, [unit], to, args, tally, move=False)
    if tally.failed and doomed:
        tally.note = "; nothing was removed, since not everything could be copied"
    elif doomed:
        _refuse_empty(comparison, source, args)
        tally.note = f", {_remove(comparison, doomed, to)} removed"
    tally.note += f", {comparison.unchanged} unchanged"
    return tally.end()


def _two_folders(args: Namespace) -> tuple[Address, Target]:
    source = addresses.parse(args.source, literal=True)
    if source.local and not os.path.isdir(source.path):
        what = "it is a file; cp copies it" if os.path.exists(source.path) else "no such folder"
        raise ConfigError(f"{args.source}: {what}")
    ends = addresses.Stores(None, args.endpoint)
    to = planning.target(ends, args.destination, many=False, always_folder=True)
    if source.local and to.local:
        _refuse_nested(source.path, to.address.path)
    elif not source.local:
        store = ends.open(source.base)
        planning.refuse_inside(store, source, to, to.address.prefix)
        planning.refuse_inside(
            to.store, to.address, planning.Target(store, source, True), source.prefix
        )
    return source, to


def _refuse_nested(source: str, to: str) -> None:
    one, two = (os.path.join(os.path.realpath(path), "") for path in (source, to))
    if one.startswith(two) or two.startswith(one):
        raise ConfigError(f"{source} and {to}: one is inside the other")


def _wanted(
    comparison: planning.Comparison, doomed: list[str], delete: bool
) -> Iterator[planning.Change]:
    """Yield what is to be copied; what is extra is kept for the end, if it is to be removed."""
    for change in comparison.changes():
        if change.reason:
            yield change
        elif delete:
            doomed.append(change.name)


def _refuse_empty(comparison: planning.Comparison, source: Address, args: Namespace) -> None:
    if not comparison.originals and not args.allow_empty:
        raise ConfigError(
            f"{source} is empty; nothing was removed",
            hint="--allow-empty, if everything in the destination is to be removed",
        )


def _tell_plan(
    comparison: planning.Comparison,
    changes: Iterable[planning.Change],
    doomed: list[str],
    source: Address,
    to: Target,
    args: Namespace,
) -> int:
    count = 0
    for change in changes:
        count += 1
        new = to.address.show(to.address.prefix + change.name)
        old = source.show(source.prefix + change.name)
        say(f"copy {old} -> {new} ({change.reason})")
    if doomed:
        _refuse_empty(comparison, source, args)
    for name in _removable(comparison, doomed, to):
        count += 1
        say(f"remove {to.address.show(to.address.prefix + name)}")
    print(f"{count} to do, {comparison.unchanged} unchanged", file=sys.stderr)
    return 3 if args.check and count else 0


def _removable(comparison: planning.Comparison, doomed: Iterable[str], to: Target) -> Iterator[str]:
    """Yield what is removed: neither a compressed copy nor what a link leads to."""
    for name in doomed:
        if to.local and planning.behind_link(to.address.path, name):
            continue
        if comparison.is_extra(name):
            yield name


def _remove(comparison: planning.Comparison, doomed: Iterable[str], to: Target) -> int:
    names = [*_removable(comparison, doomed, to)]
    to.store.remove_many(to.address.prefix + name for name in names)
    if to.local:
        for name in names:
            planning.remove_empty_parents(to.address.path, name)
    return len(names)


# -- what is told ------------------------------------------------------------------------------


def say(line: str) -> None:
    """Print a line that holds names, as they are but for control characters."""
    if any(ord(c) < 32 or 0x7F <= ord(c) < 0xA0 for c in line.replace("\t", "")):
        line = "".join(c if c.isprintable() or c in "\t " else f"\\x{ord(c):02x}" for c in line)
    try:
        print(line)
    except UnicodeEncodeError:  # a file's name that is not in the system's encoding
        sys.stdout.flush()
        sys.stdout.buffer.write(os.fsencode(line) + b"\n")


class Tally:
    """Counts what became of many copies; tells at the end.

    Parameters
    ----------
    verb : str
        ``"copied"`` or ``"moved"``.
    """

    def __init__(self, verb: str) -> None:
        self.verb = verb
        self.note = ""
        self.failed = 0
        self._done = self._kept = self._bytes = 0
        self._errors: list[Exception] = []

    def add(self, copied: Copied, error: Exception | None) -> None:
        """Count one.

        Parameters
        ----------
        error : Exception or None
            Its error.
        """
        if error is not None:
            self.refuse(copied.name, error)
        elif copied.size is None:
            self._kept += 1
        else:
            self._done += 1
            self._bytes += copied.size

    def refuse(self, _: str, error: Exception) -> None:
        """Count a failure."""
        self.failed += 1
        if len(self._errors) < _MOST_TOLD:
            self._errors.append(error)

    def end(self, single: bool = False) -> int:
        """Tell of it.

        Parameters
        ----------
        single : bool, default False
            Whether it was one object only, of which nothing but a failure is told.

        Returns
        -------
        int
            The exit code.
        """
        if single and self._errors:
            raise self._errors[0]
        if self.failed:
            total = self.failed + self._done + self._kept
            told = [f"  {_first_line(error)}" for error in self._errors]
            if self.failed > len(told):
                told.append(f"  … and {self.failed - len(told)} more")
            text = f"{self.failed} of {total} objects could not be {self.verb}:"
            print("\n".join([f"pkgdata: error: {text}", *told]), file=sys.stderr)
        if not single:
            moved = f" ({_text.size(self._bytes)})" if self._bytes else ""
            kept = f", {self._kept} were there" if self._kept else ""
            print(f"{self._done} {self.verb}{moved}{kept}{self.note}", file=sys.stderr)
        return 1 if self.failed else 0


def _first_line(error: Exception) -> str:
    return (error.message if isinstance(error, PkgdataError) else str(error)).partition("\n")[0]
