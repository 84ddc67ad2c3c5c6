"""``migrate``."""

from __future__ import annotations

import os
import sys

from ..base import text
from ..core.declaration import find_package, installed
from ..errors import ConfigError, PkgdataError

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
    migrate = commands.add_parser(
        "migrate",
        help="take over what astropy or pooch downloaded; nothing is downloaded",
        description="Take over, by digest and by URL, what astropy or pooch downloaded. Nothing "
        "is downloaded, and the originals stay.",
    )
    migrate.add_argument(
        "package",
        nargs="?",
        metavar="PKG",
        help="package, or path of its folder; if left out, all that announce data, and from "
        "astropy all URLs too, if pkgdata's cache is elsewhere",
    )
    migrate.add_argument("--from", dest="origin", choices=("astropy", "pooch"), required=True)
    migrate.add_argument(
        "--source",
        metavar="DIR",
        help="pooch's folder of PKG, or astropy's folder with download/url; where they keep it by "
        "default",
    )
    migrate.add_argument(
        "--pkgname", metavar="NAME", help="whose downloads of astropy's (default: astropy)"
    )
    migrate.add_argument("--dry-run", action="store_true", help="list only")
    migrate.add_argument("--json", action="store_true", help="for scripts")
    migrate.set_defaults(run=_migrate)


def _migrate(args: Namespace) -> int:
    wrong = _misused(args)
    if wrong:
        print(f"pkgdata: error: {wrong}", file=sys.stderr)
        return 2
    _check_source(args)
    if args.package is not None:
        found, missing = _of_package(args, args.package)
        _show(args, found, missing)
        return 0
    found, missing, code = list(_downloads(args)), 0, 0
    for package in sorted(installed()):
        try:
            more, left = _of_package(args, package)
        except (PkgdataError, OSError) as error:  # one that is broken must not stop the others
            print(f"pkgdata: error: {package} is passed over: {error}", file=sys.stderr)
            code = 1
        else:
            found += more
            missing += left
    _show(args, found, missing)
    return code


def _misused(args: Namespace) -> str | None:
    if args.origin == "pooch" and args.pkgname is not None:
        return "--pkgname goes with --from astropy"
    if args.origin == "pooch" and args.source is not None and args.package is None:
        return "name the package whose files are in the folder of --source"
    return None


def _check_source(args: Namespace) -> None:
    """Tell of a folder that was named and is not there, rather than find nothing in it."""
    if args.source is None:
        return
    inside = os.path.join("download", "url") if args.origin == "astropy" else ""
    if not os.path.isdir(os.path.join(args.source, inside)):
        raise ConfigError(
            f"{args.source} is no folder" + (f" with {inside} in it" if inside else ""),
            hint=f"name the cache folder of {args.origin}'s, such as ~/.cache/"
            + ("astropy" if inside else args.package),
        )


def _of_package(args: Namespace, package: str) -> tuple[list[Found], int]:
    """Take over the files of one package; also return how many are still not here."""
    from ..migrate import migrate_astropy, migrate_pooch

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
    """Take over astropy's downloads as they are, whoever declares them or not."""
    if args.origin != "astropy":
        return
    from ..cache import unpinned_dirs
    from ..migrate import migrate_astropy

    name = args.pkgname or "astropy"
    theirs = args.source or unpinned_dirs.astropys_root(name)
    if os.path.realpath(theirs) == os.path.realpath(unpinned_dirs.root_of(name)):
        print(f"{theirs}: pkgdata reads astropy's downloads where they are", file=sys.stderr)
    for one in migrate_astropy(pkgname=name, source=args.source, dry_run=args.dry_run):
        yield name, one


def _show(args: Namespace, found: list[Found], missing: int) -> None:
    rows = [(os.path.getsize(one.source), package, one) for package, one in found]
    if args.json:
        text.json(
            [
                {
                    "package": package,
                    "name": one.name,
                    "size": size,
                    "source": one.source,
                    "path": one.path,
                }
                for size, package, one in rows
            ]
        )
    elif rows:
        text.table(
            ["SIZE", "PACKAGE", "NAME", "FROM"],
            [[text.size(size), package, one.name, one.source] for size, package, one in rows],
        )
    verb = "would be adopted" if args.dry_run else "adopted"
    total = text.size(sum(size for size, _, _ in rows))
    left = f"; {missing} not found there, still to be fetched" if missing else ""
    print(f"{len(rows)} files ({total}) {verb}{left}", file=sys.stderr)
