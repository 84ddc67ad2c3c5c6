"""``registry make``, ``registry check`` and ``registry update``."""

from __future__ import annotations

import os
import sys

from ..base import fs, text
from ..base.config import conf
from ..base.progress import Bar, wanted
from ..core import scan
from ..core.registry import Registry
from ..publish import merge, records

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from typing import Any


def add(commands: Any) -> None:
    """Add these commands to the parser."""
    group = commands.add_parser("registry", help="make, check or update a registry")
    verbs = group.add_subparsers(dest="verb", metavar="VERB", required=True)

    make = verbs.add_parser("make", help="hash every file below a folder")
    add_make_arguments(make)
    make.set_defaults(run=run_make)

    check = verbs.add_parser("check", help="compare a folder with a registry")
    check.add_argument("folder", metavar="DIR")
    check.add_argument("registry", metavar="FILE", nargs="?", help="default: DIR/registry.txt")
    text.add_json(check)
    check.set_defaults(run=_check)

    update = verbs.add_parser("update", help="add the files of a Zenodo, Figshare or Dataverse DOI")
    update.add_argument("registry", metavar="FILE", nargs="?", default="registry.txt")
    update.add_argument(
        "--from", dest="record", metavar="DOI", required=True, help="doi:…, zenodo:N or figshare:N"
    )
    update.set_defaults(run=_update)


def add_make_arguments(parser: Any) -> None:
    """Add the arguments of ``registry make``."""
    parser.add_argument("folder", metavar="DIR")
    parser.add_argument("-o", "--output", metavar="FILE", help="default: standard output")
    parser.add_argument("--alg", default="sha256", help="hash algorithm (default: sha256)")


def run_make(args: Namespace) -> int:
    """Make a registry."""
    with _hashed(args.folder) as bar:
        registry = scan.make(args.folder, args.alg, progress=bar)
    if args.output:
        # a registry in its own folder does not list itself
        inside = fs.name_inside(args.folder, args.output)
        registry = Registry(entry for entry in registry.values() if entry.name != inside)
        registry.write(args.output)
        print(f"{args.output}: {len(registry)} files", file=sys.stderr)
    else:
        print(registry.dumps(), end="")
    return 0


def _hashed(folder: str) -> Bar:
    sizes = []
    if os.path.isdir(folder):  # else the library says what is wrong
        sizes = [os.path.getsize(path) for _, path in fs.walk_files(folder)]
    return Bar("hashing", len(sizes), sum(sizes), shown=wanted(conf.progress))


def _check(args: Namespace) -> int:
    file = args.registry or os.path.join(args.folder, "registry.txt")
    registry = Registry.load(file)
    with _hashed(args.folder) as bar:
        found = scan.compare(args.folder, registry, progress=bar)
    inside = fs.name_inside(args.folder, file)
    found = found._replace(extra=[name for name in found.extra if name != inside])
    return text.differences(found, args.json)


def _update(args: Namespace) -> int:
    found = records.from_record(args.record)
    before = merge.load(args.registry)
    changes = records.update(before, found)
    merge.write(args.registry, before, changes.registry)
    print(
        f"{args.registry}: {len(changes.added)} new, {len(changes.placed)} with a new address, "
        f"{len(found) - len(changes.added) - len(changes.placed)} unchanged",
        file=sys.stderr,
    )
    return 0
