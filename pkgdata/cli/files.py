"""``get``, ``where``, ``fetch``, ``list`` and ``verify``."""

from __future__ import annotations

import os
import shlex
import time
from argparse import Namespace
from typing import Any

from ..base import text
from ..base.config import conf
from ..base.progress import DONE, START, Event, view
from ..base.report import Report
from ..cluster import job
from ..core.declaration import announced, find_package
from ..core.package import PackageData
from ..errors import BatchError, ConfigError, PkgdataError

_FOLDERS = "PKGDATA_FOLDERS"
_PACKAGE = "package, or path of a folder with a pkgdata.toml, such as ./src/mypkg"


def add(commands: Any) -> None:
    """Add these commands to the parser."""
    get = text.command(
        commands, "get", _get, "print the path of a file; download it if it is not here"
    )
    _package_and_name(get)

    where = text.command(commands, "where", _where, "list each place where a file is looked for")
    _package_and_name(where)
    text.add_json(where)

    fetch = text.command(
        commands, "fetch", _fetch, "download the files of a package that are not here"
    )
    fetch.add_argument("package", metavar="PKG", help=_PACKAGE)
    fetch.add_argument("names", nargs="*", default=[], metavar="NAME", help="default: all of them")
    fetch.add_argument("--to", metavar="DIR", help="also write them as DIR/PKG/NAME")
    fetch.add_argument(
        "--on",
        metavar="WHERE",
        help="to all machines: job, slurm, mpi, tcp://HOST:PORT or FILE.json of Dask",
    )
    fetch.add_argument("--timeline", metavar="FILE.svg", help="draw when each file was in flight")
    text.add_json(fetch)

    lists = text.command(
        commands, "list", _list, "list the packages with data, or the files of one", as_json=True
    )
    lists.add_argument("package", nargs="?", metavar="PKG", help="default: list the packages")

    verify = text.command(
        commands, "verify", _verify, "hash the files that are here again", as_json=True
    )
    verify.add_argument("package", metavar="PKG", help=_PACKAGE)
    verify.add_argument("names", nargs="*", default=[], metavar="NAME", help="default: all of them")


def _package_and_name(parser: Any) -> None:
    parser.add_argument(
        "package", nargs="?", metavar="PKG", help="optional if only one package has NAME"
    )
    parser.add_argument("name", metavar="NAME", help="file, as the registry names it")


def _find(args: Namespace) -> PackageData:
    """Return the package named, or the one installed package whose registry has the name."""
    if args.package is not None:
        return find_package(args.package)
    found, broken = [], []
    for name, data in announced():
        if not isinstance(data, PackageData):
            broken.append(name)
        elif args.name in data.registry:
            found.append(data)
    # the samples of pkgdata itself give way: nobody has asked for them
    found = [data for data in found if data.name != "pkgdata"] or found
    if len(found) == 1:
        return found[0]
    names = ", ".join(data.name for data in found)
    unread = f"; broken: {', '.join(broken)}, see 'pkgdata list'" if broken else ""
    hint = f"name the package: pkgdata {args.command} PKG {args.name}"
    if not found and _is_package(args.name):
        hint = f"{args.name} is a package: pkgdata {args.command} {args.name} NAME, or for all of "
        hint += f"its files: pkgdata fetch {args.name}"
    raise ConfigError(
        f"{args.name!r} is in the registry of {names or 'no installed package'}{unread}", hint=hint
    )


def _is_package(name: str) -> bool:
    try:
        find_package(name)
    except (PkgdataError, OSError):
        return False
    return True


def _get(args: Namespace) -> None:
    data = _find(args)
    data._settings.may_be_temporary = False  # the path is to be good when this program has ended
    show, began, new = view(conf.progress), time.monotonic(), []
    resumed: list[int] = []

    def watch(event: Event) -> None:
        if event.state == START:
            resumed.append(event.done)
        if event.state == DONE:
            new.append(event.done - min(resumed, default=0))
        show(event)

    path = data.get(args.name, progress=watch)
    took = time.monotonic() - began
    print(path)
    what = f"fetched, {text.speed(sum(new), took)}" if new else "already here"
    text.note(f"{args.name}: {what}")


def _where(args: Namespace) -> None:
    places = _find(args).where(args.name)
    text.json_or_table(
        args.json,
        [{"kind": p.kind, "where": p.where, "state": p.state, "note": p.note} for p in places],
        ["PLACE", "STATE", "PATH OR URL"],
        [[p.kind, p.state, p.where + (f"  ({p.note})" if p.note else "")] for p in places],
    )


def _fetch(args: Namespace) -> int:
    data = find_package(args.package)
    data._settings.may_be_temporary = args.to is not None  # there the files stay in any case
    progress = None
    if args.timeline:
        from .copying import Timeline  # its XML library would slow down every `get`

        names = args.names or list(data.registry)
        sizes = [data.registry[name].size for name in names if name in data.registry]
        total = None if None in sizes else sum(size or 0 for size in sizes)
        progress = Timeline(view(conf.progress, len(names), total))
    try:
        report = data.fetch(args.names or None, to=args.to, progress=progress, on=args.on)
    except BatchError as error:
        report = error.report
        reasons = [*report.failed.values()]
        if not args.json:
            if all(getattr(one, "unwritable", False) for one in reasons):
                raise reasons[0] from None  # the reason of all of them, once
            error.command = (
                "the same command tries these again; "
                f"'pkgdata where {data.name} NAME' shows where each was looked for"
            )
            raise
    finally:
        if progress is not None:
            progress.write(args.timeline)
    if args.json:
        failed = {name: str(error) for name, error in report.failed.items()}
        hosts = {
            host: {key: getattr(share, key) for key in share.__slots__}
            for host, share in report.hosts.items()
        }
        found = {
            "succeeded": report.succeeded,
            "failed": failed,
            "new": report.new,
            "bytes": report.bytes,
            "seconds": round(report.seconds, 3),
        }
        text.json({**found, "hosts": hosts} if args.on else found)
    elif _speaks(args, report):
        text.note(_brought(args, data, report))
        if args.to is not None:
            print(_using(os.path.abspath(args.to)))
    return 1 if report.failed else 0


def _speaks(args: Namespace, report: Report) -> bool:
    """Return False for the ranks of a job that have nothing of their own to say."""
    here = job.seat() if args.on in ("job", "mpi") else None
    return here is None or here.rank == 0 or (args.on == "job" and bool(report.hosts))


def _brought(args: Namespace, data: PackageData, report: Report) -> str:
    noun, new = f"file of {data.name}", report.new
    places = {
        (data._settings.url_cache if data.registry[name].digest is None else data.cache).root
        for name in new
    }
    # a cluster's machines have caches of their own
    here = args.to is None and args.on in (None, "job", "mpi", "slurm")
    line = text.closing(
        "fetched",
        len(new),
        report.bytes,
        noun=noun,
        place=f"into {' and '.join(sorted(places))}" if places and here else "",
        took=report.seconds,
        already_there=len(report.succeeded) - len(new),
    )
    shares = [*report.hosts.values()]
    if args.on and shares:
        origin = text.size(sum(share.origin for share in shares))
        peers = text.size(sum(share.peers for share in shares))
        machines = text.counted(len(shares), "machine")
        line += f"; to {machines}: {origin} from the origin, {peers} from each other"
    if args.to is None:
        return line
    return f"{line}; {text.counted(len(report.succeeded), 'file')} in {args.to}/{data.name}"


def _using(folder: str) -> str:
    """Return the line of a shell by which packages find what was fetched into a folder."""
    known = f":${_FOLDERS}" if os.environ.get(_FOLDERS) else ""
    if os.name == "nt":
        return f"set {_FOLDERS}={folder}" + (f";%{_FOLDERS}%" if known else "")
    return f"export {_FOLDERS}={shlex.quote(folder)}{known}"


def _list(args: Namespace) -> None:
    if args.package is None:
        _list_packages(args)
        return
    data = find_package(args.package)
    entries: list[dict[str, Any]] = [
        {
            "name": entry.name,
            "size": entry.size,
            "digest": None if entry.digest is None else str(entry.digest),
            "here": data.find(entry.name),
        }
        for entry in data.registry.values()
    ]
    rows = [["yes" if e["here"] else "no", text.size(e["size"]), e["name"]] for e in entries]
    text.json_or_table(args.json, entries, ["HERE", "SIZE", "NAME"], rows)


def _list_packages(args: Namespace) -> None:
    value: dict[str, dict[str, Any]] = {}
    rows = []
    for name, data in announced():
        if isinstance(data, PackageData):
            value[name] = {"files": len(data.registry), "dataurl": data.dataurl}
            rows.append([name, str(len(data.registry)), ", ".join(data.dataurl)])
        else:
            why = getattr(data, "message", None) or str(data)
            value[name] = {"files": None, "dataurl": [], "broken": why}
            rows.append([name, "?", f"broken: {why}"])
    text.json_or_table(args.json, value, ["PACKAGE", "FILES", "DATAURL"], rows)


def _verify(args: Namespace) -> int:
    result = find_package(args.package).verify(args.names or None)
    rows = [[state, name] for name, state in result.items()]
    text.json_or_table(args.json, result, ["STATE", "NAME"], rows)
    return 3 if set(result.values()) - {"ok", "absent"} else 0
