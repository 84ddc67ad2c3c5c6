"""``cache``, ``migrate``, ``config`` and ``ci-key``: the user cache, and the settings."""

from __future__ import annotations

import datetime
import os
import time

from ..base import config, text
from ..cache import unpinned_dirs, upkeep
from ..cache.objects import Cache
from ..core.declaration import find_package, installed
from ..core.lookup import Settings
from ..errors import CacheError, ConfigError, PkgdataError
from ..migrate import migrate_astropy, migrate_pooch
from ..testing import ci_key

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterator
    from typing import Any

    from ..migrate import Adopted

    #: Package, and what of it was adopted.
    Found = tuple[str, Adopted]


def add(commands: Any) -> None:
    """Add these commands to the parser."""
    _, verbs = text.group(commands, "cache", "see and clean the files that were downloaded")

    text.command(verbs, "path", _path, "print where it is")

    text.command(verbs, "ls", _ls, "list its files", as_json=True)
    text.command(verbs, "du", _du, "print how much space it takes", as_json=True)

    prune = text.command(verbs, "prune", _prune, "remove what was not used recently, and leftovers")
    prune.add_argument("--older-than", type=float, default=90.0, metavar="DAYS", help="default: 90")
    prune.add_argument("--dry-run", action="store_true", help="list only")
    text.add_json(prune)

    clear = text.command(verbs, "clear", _clear, "remove everything")
    clear.add_argument("--yes", action="store_true", help="do not ask")

    export = text.command(
        verbs, "export", _export, "write files into an archive for another machine"
    )
    export.add_argument("archive", metavar="FILE.tar", help="archive to write")
    export.add_argument("names", nargs="*", default=[], metavar="NAME", help="default: everything")

    imports = text.command(verbs, "import", _import, "import and verify the files of an archive")
    imports.add_argument("archive", metavar="FILE.tar", help="archive to read")

    _add_migrate(commands)
    _add_rest(commands)


def _add_migrate(commands: Any) -> None:
    migrate = text.command(
        commands,
        "migrate",
        _migrate,
        "adopt the files that astropy or pooch downloaded",
        description="They are found by digest and by URL. Nothing is downloaded, and the originals "
        "are kept.",
    )
    migrate.add_argument(
        "package",
        nargs="?",
        metavar="PKG",
        help="package, or path of its folder (default: all that announce data; from astropy "
        "all URLs too, if pkgdata's cache is elsewhere)",
    )
    migrate.add_argument(
        "--from",
        dest="origin",
        choices=("astropy", "pooch"),
        required=True,
        help="the library that downloaded them",
    )
    migrate.add_argument(
        "--source",
        metavar="DIR",
        help="pooch's folder of PKG, or astropy's folder with download/url (default: where they "
        "keep it)",
    )
    migrate.add_argument(
        "--pkgname", metavar="NAME", help="package name given to astropy (default: astropy)"
    )
    migrate.add_argument("--dry-run", action="store_true", help="list only")
    text.add_json(migrate)


def _add_rest(commands: Any) -> None:
    parser = text.command(
        commands, "config", _config, "show each setting, and where it comes from", as_json=True
    )
    parser.add_argument(
        "name", nargs="?", metavar="SETTING", help="print only the value of this one"
    )
    parser.add_argument(
        "--show-secrets", action="store_true", help="print headers and logins in URLs as they are"
    )

    key = text.command(
        commands,
        "ci-key",
        _ci_key,
        "print the key of packages' files in the cache of a CI service",
    )
    key.add_argument("packages", nargs="+", metavar="PKG", help="package, or path of its folder")


# -- cache ------------------------------------------------------------------------------------


def _cache() -> Cache:
    path, origin = config.cache_dir()
    return Cache(path, config.conf.lock_timeout, origin)


def _caches() -> list[Cache]:
    """Return the cache of this node, if there is one, and the user's."""
    node = Settings("", {}, []).node
    return [*([] if node is None else [node]), _cache()]


def _path(_: Namespace) -> None:
    print(_cache().root)


def _rows(items: list[upkeep.CachedObject], as_json: bool, node: Cache | None = None) -> None:
    value = [{**item._asdict(), "digest": str(item.digest)} for item in items]
    rows = [
        [
            text.size(item.size),
            datetime.date.fromtimestamp(item.used).isoformat(),
            f"{item.digest.alg}:{item.digest.hex[:12]}",
            item.name,
        ]
        for item in items
    ]
    head = ["SIZE", "LAST USED", "DIGEST", "NAME"]
    if node is not None:
        here = (item.path.startswith(node.root + os.sep) for item in items)
        rows = [["node" if near else "user", *row] for near, row in zip(here, rows, strict=True)]
        head = ["CACHE", *head]
    text.json_or_table(as_json, value, head, rows)


def _ls(args: Namespace) -> None:
    caches = _caches()
    items = [item for cache in caches for item in upkeep.items(cache)]
    node = caches[0] if len(caches) > 1 else None
    _rows(sorted(items, key=lambda item: item.name), args.json, node)


def _du(args: Namespace) -> None:
    *nodes, cache = _caches()
    totals = {what: space.bytes for what, space in upkeep.usage(cache).items()}
    rows = [[text.size(count), what] for what, count in totals.items()]
    value: dict[str, Any] = {"path": cache.root, **totals}
    for node in nodes:
        usage = {what: space.bytes for what, space in upkeep.usage(node).items()}
        value["node"] = {"path": node.root, **usage}
        rows.append([text.size(usage["total"]), f"in this node's cache {node.root}"])
    text.json_or_table(args.json, value, ["SIZE", "WHAT"], rows)


def _prune(args: Namespace) -> None:
    began, caches = time.monotonic(), _caches()
    pruned = [upkeep.prune(cache, args.older_than, args.dry_run) for cache in caches]
    old = [item for items, _, _ in pruned for item in items]
    folders, leftovers = sum(one[1] for one in pruned), sum(one[2] for one in pruned)
    if old or args.json:
        _rows(old, args.json)
    line = text.closing(
        "would be removed" if args.dry_run else "removed",
        len(old),
        sum(item.size for item in old),
        place=f"from {' and '.join(cache.root for cache in caches)}",
        took=None if args.dry_run else time.monotonic() - began,
        trees_and_unpacked_archives=folders,
        leftovers=leftovers,
    )
    text.note(line)


def _clear(args: Namespace) -> int:
    caches = _caches()
    roots = " and ".join(cache.root for cache in caches)
    if not args.yes and (code := text.ask(f"Remove everything in {roots}?")):
        return code
    began = time.monotonic()
    removed = [upkeep.clear(cache) for cache in caches]
    took = time.monotonic() - began
    files, size = sum(one.files for one in removed), sum(one.bytes for one in removed)
    text.note(text.closing("removed", files, size, place=f"from {roots}", took=took))
    return 0


def _export(args: Namespace) -> None:
    began = time.monotonic()
    written = upkeep.export_archive(_cache(), args.archive, args.names or None)
    size, took = sum(item.size for item in written), time.monotonic() - began
    place = f"to {args.archive}"
    text.note(text.closing("written", len(written), size, place=place, took=took))


def _import(args: Namespace) -> None:
    cache, began = _cache(), time.monotonic()
    new, kept = upkeep.import_archive(cache, args.archive)
    line = text.closing(
        "imported",
        len(new),
        sum(item.size for item in new),
        place=f"into {cache.root}",
        took=time.monotonic() - began,
        already_there=kept,
    )
    text.note(line)


# -- migrate ----------------------------------------------------------------------------------


def _migrate(args: Namespace) -> int:
    wrong = _misused(args)
    if wrong:
        text.error(wrong)
        return 2
    _check_source(args)
    if args.package is not None:
        found, missing = _of_package(args, args.package)
        _print_adopted(args, found, missing)
        return 0
    found, missing, code = list(_downloads(args)), 0, 0
    for package in sorted(installed()):
        try:
            more, left = _of_package(args, package)
        except (PkgdataError, OSError) as error:  # one that is broken must not stop the others
            text.error(f"{package} is skipped: {error}")
            code = 1
        else:
            found += more
            missing += left
    _print_adopted(args, found, missing)
    return code


def _misused(args: Namespace) -> str | None:
    if args.origin == "pooch" and args.pkgname is not None:
        return "--pkgname goes with --from astropy"
    if args.origin == "pooch" and args.source is not None and args.package is None:
        return "name the package whose files are in the folder of --source"
    return None


def _check_source(args: Namespace) -> None:
    """Refuse a missing folder, rather than find nothing in it."""
    if args.source is None:
        return
    inside = os.path.join("download", "url") if args.origin == "astropy" else ""
    if not os.path.isdir(os.path.join(args.source, inside)):
        raise ConfigError(
            f"{args.source} is not a folder" + (f" with {inside} in it" if inside else ""),
            hint=f"name the cache folder of {args.origin}, such as ~/.cache/"
            + ("astropy" if inside else args.package),
        )


def _of_package(args: Namespace, package: str) -> tuple[list[Found], int]:
    """Adopt the files of one package; also return how many are still missing."""
    data = find_package(package)
    if args.origin == "pooch":
        adopted = migrate_pooch(data, source=args.source, dry_run=args.dry_run)
    else:
        pkgname = args.pkgname or "astropy"
        adopted = migrate_astropy(data, pkgname=pkgname, source=args.source, dry_run=args.dry_run)
    names = {one.name for one in adopted}
    missing = [name for name in data.registry if name not in names and data.find(name) is None]
    return [(data.name, one) for one in adopted], len(missing)


def _downloads(args: Namespace) -> Iterator[Found]:
    """Adopt astropy's downloads, whether or not a package declares them."""
    if args.origin != "astropy":
        return
    name = args.pkgname or "astropy"
    theirs = args.source or unpinned_dirs.astropys_root(name)
    if os.path.realpath(theirs) == os.path.realpath(unpinned_dirs.root_of(name)):
        text.note(f"{theirs}: pkgdata reads astropy's downloads where they are")
    for one in migrate_astropy(pkgname=name, source=args.source, dry_run=args.dry_run):
        yield name, one


def _print_adopted(args: Namespace, found: list[Found], missing: int) -> None:
    rows = [(os.path.getsize(one.source), package, one) for package, one in found]
    if args.json:
        keys = ("package", "name", "size", "source", "path")
        found_rows = [(package, o.name, size, o.source, o.path) for size, package, o in rows]
        text.json([dict(zip(keys, row, strict=True)) for row in found_rows])
    elif rows:
        text.table(
            ["SIZE", "PACKAGE", "NAME", "FROM"],
            [[text.size(size), package, one.name, one.source] for size, package, one in rows],
        )
    verb = "would be adopted" if args.dry_run else "adopted"
    total = sum(size for size, _, _ in rows)
    line = text.closing(verb, len(rows), total, not_found_there=missing)
    text.note(line + (", still to be fetched" if missing else ""))


# -- config and ci-key --------------------------------------------------------------------------


def _config(args: Namespace) -> None:
    names = [args.name] if args.name else list(config.FIELDS)
    found = {name: _value(name) for name in names}
    if not args.show_secrets:
        found = {name: (config.shown(value), where) for name, (value, where) in found.items()}
    if args.json:
        text.json({name: {"value": value, "from": where} for name, (value, where) in found.items()})
    elif args.name:
        print(_shown(found[args.name][0]))
    else:
        rows = [[name, _shown(value), where] for name, (value, where) in found.items()]
        text.table(["SETTING", "VALUE", "FROM"], rows)


def _value(name: str) -> tuple[Any, str]:
    if name not in config.FIELDS:
        raise config.unknown_key(name, config.FIELDS, "pkgdata config")
    if name != "cache_dir":
        return config.resolve(name)
    try:
        return config.cache_dir()
    except CacheError as error:
        return None, error.message


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return " ".join(f"{key}={_pairs(to)}" for key, to in value.items()) or "-"
    if isinstance(value, tuple):
        return os.pathsep.join(value) or "-"
    if isinstance(value, bool):
        return "true" if value else "false"
    return "-" if value is None else str(value)


def _pairs(value: Any) -> str:
    return ",".join(f"{k}:{v}" for k, v in value.items()) if isinstance(value, dict) else value


def _ci_key(args: Namespace) -> None:
    print(ci_key(*args.packages))
