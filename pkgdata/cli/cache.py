"""``cache ls``, ``du``, ``prune``, ``clear``, ``export``, ``import`` and ``path``."""

from __future__ import annotations

import sys

from ..base import config, text
from ..cache import upkeep
from ..cache.objects import Cache

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from typing import Any


def add(commands: Any) -> None:
    """Add these commands to the parser."""
    group = commands.add_parser("cache", help="look after the user cache")
    verbs = group.add_subparsers(dest="verb", metavar="VERB", required=True)

    path = verbs.add_parser("path", help="print where it is")
    path.set_defaults(run=_path)

    for name, run, about in (
        ("ls", _ls, "list what it holds"),
        ("du", _du, "say how much space it takes"),
    ):
        verb = verbs.add_parser(name, help=about)
        verb.add_argument("--json", action="store_true", help="for scripts")
        verb.set_defaults(run=run)

    prune = verbs.add_parser("prune", help="remove what was not used for long, and leftovers")
    prune.add_argument("--older-than", type=float, default=90.0, metavar="DAYS", help="default: 90")
    prune.add_argument("--dry-run", action="store_true", help="list only")
    prune.add_argument("--json", action="store_true", help="for scripts")
    prune.set_defaults(run=_prune)

    clear = verbs.add_parser("clear", help="remove everything")
    clear.add_argument("--yes", action="store_true", help="do not ask")
    clear.set_defaults(run=_clear)

    export = verbs.add_parser("export", help="write files into an archive for another machine")
    export.add_argument("archive", metavar="FILE.tar")
    export.add_argument("names", nargs="*", metavar="NAME", help="everything if left out")
    export.set_defaults(run=_export)

    imports = verbs.add_parser("import", help="take over the files of an archive, verified")
    imports.add_argument("archive", metavar="FILE.tar")
    imports.set_defaults(run=_import)


def _cache() -> Cache:
    path, origin = config.cache_dir()
    return Cache(path, config.conf.lock_timeout, origin)


def _path(_: Namespace) -> int:
    print(_cache().root)
    return 0


def _rows(items: list[upkeep.Item], as_json: bool) -> None:
    import datetime

    if as_json:
        text.json(
            [
                {
                    "name": item.name,
                    "digest": str(item.digest),
                    "size": item.size,
                    "used": item.used,
                    "path": item.path,
                }
                for item in items
            ]
        )
        return
    rows = [
        [
            text.size(item.size),
            datetime.date.fromtimestamp(item.used).isoformat(),
            f"{item.digest.alg}:{item.digest.hex[:12]}",
            item.name,
        ]
        for item in items
    ]
    text.table(["SIZE", "LAST USED", "DIGEST", "NAME"], rows)


def _ls(args: Namespace) -> int:
    _rows(sorted(upkeep.items(_cache()), key=lambda item: item.name), args.json)
    return 0


def _du(args: Namespace) -> int:
    cache = _cache()
    totals = upkeep.usage(cache)
    if args.json:
        text.json({"path": cache.root, **totals})
    else:
        text.table(
            ["SIZE", "WHAT"],
            [[text.size(count), what] for what, count in totals.items()],
        )
    return 0


def _prune(args: Namespace) -> int:
    removed, swept = upkeep.prune(_cache(), args.older_than, args.dry_run)
    if removed or args.json:
        _rows(removed, args.json)
    verb = "would be removed" if args.dry_run else "removed"
    total = text.size(sum(item.size for item in removed))
    print(f"{len(removed)} files ({total}) and {swept} leftovers {verb}", file=sys.stderr)
    return 0


def _clear(args: Namespace) -> int:
    cache = _cache()
    if not args.yes:
        if not sys.stdin.isatty():
            print("pkgdata: error: nobody to ask; say --yes", file=sys.stderr)
            return 2
        print(f"Remove everything in {cache.root}? [y/N] ", end="", file=sys.stderr, flush=True)
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            return 1
    print(f"{text.size(upkeep.clear(cache))} removed", file=sys.stderr)
    return 0


def _export(args: Namespace) -> int:
    written = upkeep.export_archive(_cache(), args.archive, args.names or None)
    print(f"{args.archive}: {len(written)} files", file=sys.stderr)
    return 0


def _import(args: Namespace) -> int:
    added = upkeep.import_archive(_cache(), args.archive)
    print(f"{len(added)} files from {args.archive} are here", file=sys.stderr)
    return 0
