"""``cache`` and ``migrate``: the user cache."""

from __future__ import annotations

import datetime
import difflib
import os
import shlex
import time
from argparse import Namespace
from collections.abc import Iterable, Iterator
from typing import Any

from ..base import config, fs, text
from ..base.hashes import Digest, hash_file
from ..cache import objects, stamps, unpinned_dirs, upkeep
from ..cache.objects import Cache
from ..compat.migrate import Adopted, migrate_astropy, migrate_pooch
from ..core.declaration import announced, find_package, installed
from ..core.lookup import Settings
from ..core.package import PackageData
from ..errors import CacheError, ConfigError, PkgdataError

#: Digests, each with a name.
Uses = set[tuple[str, str]]
#: Package, and what of it was adopted.
Found = tuple[str, Adopted]


def _days(text: str) -> float:
    days = float(text)
    if not days >= 0:
        raise ValueError  # nor is it NaN
    return days


def add(commands: Any) -> None:
    """Add these commands to the parser."""
    _, verbs = text.group(commands, "cache", "see and clean the files that were downloaded")

    text.command(verbs, "path", _path, "print where it is")

    ls = text.command(verbs, "ls", _ls, "list what each package has in it", as_json=True)
    ls.add_argument(
        "packages", nargs="*", default=[], metavar="PKG", help="list the files of these packages"
    )
    ls.add_argument("--files", action="store_true", help="list all files")
    text.command(verbs, "du", _du, "print how much space it takes", as_json=True)
    why = text.command(verbs, "why", _why, "say what a file in it is, and who uses it")
    why.add_argument("path", metavar="PATH", help="file or folder in the cache")
    text.add_json(why)

    rm = text.command(
        verbs,
        "rm",
        _rm,
        "remove the files of a package",
        "package: package whose files are removed",
        description="Those that another package uses too are kept.",
    )
    rm.add_argument("names", nargs="*", default=[], metavar="NAME", help="default: all of them")
    rm.add_argument("--dry-run", action="store_true", help="list only")
    text.add_json(rm)

    prune = text.command(verbs, "prune", _prune, "remove what was not used recently, and leftovers")
    prune.add_argument("--older-than", type=_days, default=90.0, metavar="DAYS", help="default: 90")
    prune.add_argument("--dry-run", action="store_true", help="list only")
    text.add_json(prune)

    clear = text.command(verbs, "clear", _clear, "remove everything")
    clear.add_argument("--yes", action="store_true", help="do not ask")

    export = text.command(
        verbs, "export", _export, "write files into an archive for another machine"
    )
    export.add_argument("archive", metavar="FILE.tar", help="archive to write")
    export.add_argument("names", nargs="*", default=[], metavar="NAME", help="default: everything")
    export.add_argument("--package", metavar="PKG", help="only the files of this package")

    imports = text.command(verbs, "import", _import, "import and verify the files of an archive")
    imports.add_argument("archive", metavar="FILE.tar", help="archive to read")

    _add_migrate(commands)


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
        metavar="LIBRARY",  # a line of usage holds it in a narrow terminal
        required=True,
        help="astropy or pooch, which downloaded them",
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
            _day(item.used),
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


def _users(cache: Cache) -> dict[str, Uses]:
    """Return the digests and names of files of each package that is known to use some.

    Of those that are installed here the registry tells, of others what the cache has recorded.
    """
    found = stamps.used_by(cache.root)
    for name, data in announced():
        if isinstance(data, PackageData):
            pinned = (entry for entry in data.registry.values() if entry.digest is not None)
            found[name] = found.get(name, set()) | {(str(one.digest), one.name) for one in pinned}
    return found


def _used_by(cache: Cache, users: dict[str, Uses], package: str) -> Uses:
    """Return the uses of a package; an error names packages that have some."""
    if package in users:
        return users[package]
    close = difflib.get_close_matches(package, users, 3) or sorted(users)[:10]
    raise CacheError(
        f"no package {package!r} is known to use the cache {cache.root}",
        hint=f"known: {', '.join(close)}" if close else "'pkgdata cache ls --files' lists all",
    )


def _ls(args: Namespace) -> None:
    caches = _caches()
    found = [item for cache in caches for item in upkeep.items(cache)]
    found.sort(key=lambda item: item.name)
    if args.files or args.packages:
        if args.packages:
            known = _users(caches[-1])
            uses = {d for name in args.packages for d, _ in _used_by(caches[-1], known, name)}
            found = [item for item in found if str(item.digest) in uses]
        _rows(found, args.json, caches[0] if len(caches) > 1 else None)
        return
    users = {name: _digests(uses) for name, uses in _users(caches[-1]).items()}
    groups: dict[str, list[upkeep.CachedObject]] = {}
    for item in found:
        digest = str(item.digest)
        for package in [name for name, uses in users.items() if digest in uses] or [""]:
            groups.setdefault(package, []).append(item)
    value: list[dict[str, Any]] = [
        {
            "package": name or None,
            "files": len({item.digest for item in items}),
            "bytes": sum(item.size for item in items),
            "used": max(item.used for item in items),
        }
        for name, items in groups.items()
    ]
    value.sort(key=lambda row: -row["bytes"])
    rows = [
        [
            one["package"] or "(unknown)",
            str(one["files"]),
            text.size(one["bytes"]),
            _day(one["used"]),
        ]
        for one in value
    ]
    text.json_or_table(args.json, value, ["PACKAGE", "FILES", "SIZE", "LAST USED"], rows)
    total = sum(item.size for item in found)
    roots = " and ".join(cache.root for cache in caches)
    text.note(f"{text.counted(len(found), 'file')}, {text.size(total)}, in {roots}")


def _day(seconds: float) -> str:
    return datetime.date.fromtimestamp(seconds).isoformat()


def _wanted(uses: Uses, package: str, names: list[str]) -> Uses:
    """Return the uses of a package, or those under some names."""
    known = {name for _, name in uses}
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(name, known, 3)
            hint = f"did you mean {' or '.join(map(repr, close))}?" if close else None
            raise CacheError(f"{package} has no file {name!r}", hint=hint)
    return {use for use in uses if not names or use[1] in names}


def _digests(uses: Iterable[tuple[str, str]]) -> set[str]:
    return {digest for digest, _ in uses}


def _rm(args: Namespace) -> None:
    began, caches = time.monotonic(), _caches()
    users = _users(caches[-1])
    own = _used_by(caches[-1], users, args.package)
    wanted = _wanted(own, args.package, args.names)
    digests, renamed = _digests(wanted), _digests(own - wanted)
    shared = {d for name, uses in users.items() if name != args.package for d in _digests(uses)}
    found, here = [], set()
    for cache in caches:
        chosen = [item for item in upkeep.items(cache) if str(item.digest) in digests]
        here |= {str(item.digest) for item in chosen}
        gone = [item for item in chosen if str(item.digest) not in shared | renamed]
        found.append(upkeep.remove(cache, gone, args.dry_run))
    if not args.dry_run:
        stamps.forget_uses(caches[-1].root, args.package, wanted)
    kept = len(here & shared), len(here & renamed - shared)
    _print_removed(args, caches, found, began, *kept)


def _why(args: Namespace) -> None:
    cache = _cache()
    path = os.path.abspath(args.path)
    inside = fs.name_inside(cache.root, path)
    parts = (inside or "").split("/")
    if inside is None or parts[0] not in objects.BUCKETS:
        raise CacheError(
            f"{path} is not in the cache {cache.root}",
            hint="'pkgdata where PKG NAME' shows where a file of a package is looked for",
        )
    facts: dict[str, Any] = {"path": path, "what": _WHAT[parts[0]]}
    if os.path.isfile(path):
        found = os.stat(path)
        facts |= {"size": found.st_size, "used": max(found.st_atime, found.st_mtime)}
    uses: list[tuple[str, str]] = []
    if parts[0] in (stamps.OBJECTS, objects.DERIVED) and len(parts) > 3:
        digest = Digest(parts[1], parts[2] + parts[3])
        own = ((package, use) for package, each in _users(cache).items() for use in each)
        uses = sorted((package, name) for package, (one, name) in own if one == str(digest))
        facts |= {"digest": str(digest), "packages": dict(reversed(uses))}
        if parts[0] == stamps.OBJECTS and os.path.isfile(path):
            facts["intact"] = hash_file(path, digest.alg) == digest
            if not facts["intact"]:
                facts["what"] = "a damaged file: its bytes are not those of its digest"
    user = " ".join(map(shlex.quote, uses[0])) if uses else ""
    if len(parts) > 1 and not os.path.exists(path):
        hint = f"pkgdata get {user}" if user else "'pkgdata cache ls --files' lists what is there"
        raise CacheError(f"{path} is missing: {facts['what']} would lie there", hint=hint)
    if args.json:
        text.json(facts)
        return
    facts.pop("packages", None)
    if "used" in facts:
        facts["used"] = _day(facts["used"])
    rows = [
        [name, text.size(one) if name == "size" else _yes_no(one)] for name, one in facts.items()
    ]
    rows += [["used by", f"{package}: {name}"] for package, name in uses]
    if not facts.get("intact", True):
        rows.append(["replace it", f"rm -f {shlex.quote(path)}; the next use downloads it again"])
    elif user:
        rows.append(["remove it", f"pkgdata cache rm {user}"])
    text.table(["FACT", "VALUE"], rows)


def _yes_no(value: object) -> str:
    return ("yes" if value else "no") if isinstance(value, bool) else str(value)


#: What the folders of a cache hold.
_WHAT = {
    stamps.OBJECTS: "a verified file",
    objects.DERIVED: "what a processor made of a file, such as an unpacked archive",
    objects.TREES: "a directory of verified files, side by side",
    stamps.PARTIAL: "an unfinished download, which the next one resumes",
    objects.LOCKS: "a lock; it means nothing if nothing runs",
    stamps.SIZES: "the sizes of files",
    stamps.STAMPS: "which files of local folders were verified",
    stamps.PACKAGES: "which files a package has used",
    objects.CONTENTS: "what a directory must hold",
    objects.HOSTS: "a server that failed recently",
}


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
    _print_removed(args, caches, pruned, began)


def _print_removed(
    args: Namespace, caches: list[Cache], pruned: list[upkeep.Pruned], began: float, *kept: int
) -> None:
    old = [item for one in pruned for item in one.objects]
    folders, leftovers = sum(one.folders for one in pruned), sum(one.leftovers for one in pruned)
    if old or args.json:
        _rows(old, args.json)
    line = text.closing(
        "would be removed" if args.dry_run else "removed",
        len(old),
        sum(one.bytes for one in pruned),
        place=f"from {' and '.join(cache.root for cache in caches)}",
        took=None if args.dry_run else time.monotonic() - began,
        trees_and_unpacked_archives=folders,
        leftovers=leftovers,
        used_by_other_packages=sum(kept[:1]),
        used_under_other_names=sum(kept[1:]),
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
    cache, names = _cache(), args.names or None
    if args.package:
        uses = _used_by(cache, _users(cache), args.package)
        wanted = _digests(_wanted(uses, args.package, args.names))
        there = {str(item.digest) for item in upkeep.items(cache)}
        names = sorted(wanted & there)
    written = upkeep.export_archive(cache, args.archive, names)
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
