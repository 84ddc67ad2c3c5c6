"""``catalog search``, ``info``, ``download``, ``prepare`` and what keeps a catalog in order."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from typing import Any

from .. import __version__
from ..base import text
from ..base.urls import redact
from ..catalog import upkeep
from ..catalog.active import Context
from ..catalog.library import Catalog
from ..catalog.objects import dumps
from ..errors import CatalogError, escaped

_TERMS = (
    "regular expressions, all of which must match: plain for names, tag:, task:, repo: and type: "
    "for the rest"
)

_NO_REPOSITORY = (
    "no repository of definitions is installed: install a package that has one, or write one; it "
    "is announced by an entry point of the group pkgdata.repositories"
)
_DATASET = "dataset: NAME, or NAME[axis=value,...]"


def add(commands: Any) -> None:
    """Add these commands to the parser."""
    group, verbs = text.group(
        commands, "catalog", "find datasets by name, tag and task; prepare them"
    )
    group.add_argument("--data", metavar="DIR", help="folder of the prepared datasets")

    search = text.command(
        verbs,
        "search",
        _search,
        "find datasets by name, tag and task",
        as_json=True,
        description=f"TERM: {_TERMS}.",
    )
    search.add_argument("terms", nargs="*", default=[], metavar="TERM", help="default: list all")

    text.command(verbs, "info", _info, "describe a dataset", _DATASET, as_json=True)

    download = text.command(verbs, "download", _download, "download the files of a dataset")
    _dataset(download)
    download.add_argument("--force", action="store_true", help="fetch and make all files again")

    prepare = text.command(
        verbs, "prepare", _prepare, "download and prepare a dataset, and print it as JSON"
    )
    _dataset(prepare)
    prepare.add_argument(
        "--encoder",
        choices=["normal", "xpm"],
        default="normal",
        help="xpm: as experimaestro reads it",
    )
    prepare.add_argument("--no-downloads", action="store_true", help="use only local files")

    text.command(verbs, "repositories", _repositories, "list the repositories", as_json=True)

    _add_upkeep(verbs)
    _add_more(verbs)


def _add_upkeep(verbs: Any) -> None:
    orphans = text.command(verbs, "orphans", _orphans, "list folders that no definition owns")
    orphans.add_argument("--size", action="store_true", help="print their sizes")
    orphans.add_argument("--remove", action="store_true", help="remove them, after asking")
    orphans.add_argument("--yes", action="store_true", help="do not ask")
    text.add_json(orphans)

    check = text.command(verbs, "check", _check, "check that the sources still answer")
    check.add_argument("terms", nargs="*", default=[], metavar="TERM", help=_TERMS)
    check.add_argument(
        "-o", "--output", metavar="FILE.json", help="write the outcome there as JSON"
    )
    text.add_json(check)

    create = text.command(
        verbs, "create-dataset", _create, "write the file of a definition, to be filled in"
    )
    create.add_argument(
        "words",
        nargs="+",
        metavar="NAME|URL",
        help="of the dataset; before it the repository, if there are several",
    )

    about = "show or set folders that differ between computers"
    _, actions = text.group(verbs, "datafolders", about)
    text.command(actions, "list", _datafolders, "list these folders", as_json=True)
    setting = text.command(
        actions, "set", _set_datafolder, "set where one is", "key: name of the folder"
    )
    setting.add_argument("path", metavar="DIR", help="where it is on this computer")


def _add_more(verbs: Any) -> None:
    copy = text.command(
        verbs,
        "copy",
        _copy,
        "copy a prepared dataset to another computer or bucket",
        _DATASET,
        "where: URL of a bucket, a folder, or [USER@]HOST:FOLDER for SFTP",
        description="What is there already is skipped, so an interrupted copy is resumed by "
        "repeating it.",
    )
    copy.add_argument("--force", action="store_true", help="copy existing files, too")
    text.add_json(copy)

    site = text.command(verbs, "site", _site, "write a page of all datasets, with a search")
    site.add_argument("folder", metavar="DIR", help="folder for the page")
    site.add_argument("--title", default="Datasets", help="of the page (default: Datasets)")

    text.command(verbs, "version", _version, "print the version")


def _dataset(parser: Any) -> None:
    parser.add_argument("dataset", metavar="DATASET", help="NAME, or NAME[axis=value,...]")
    parser.add_argument(
        "--path",
        action="append",
        default=[],
        metavar="RESOURCE=PATH",
        help="path of a resource that cannot be fetched; remembered",
    )


def _catalog(args: Namespace) -> Catalog:
    told = {}
    for pair in getattr(args, "path", ()) if args.verb in ("download", "prepare") else ():
        name, equals, path = pair.partition("=")
        if not equals:
            raise CatalogError(f"--path {pair}: expected RESOURCE=PATH")
        told[name] = path
    return Catalog(args.data, ask=_ask if sys.stdin.isatty() else None, told=told)


def _ask(question: str) -> str:
    print(escaped(question), end="", file=sys.stderr, flush=True)
    return sys.stdin.readline()


# -- finding ---------------------------------------------------------------------------------------


def _search(args: Namespace) -> None:
    catalog = _catalog(args)
    found = catalog.search(*args.terms)
    if args.json:
        text.json([_row(one) for one in found])
        return
    if not catalog.indexes:
        text.note(_NO_REPOSITORY)
    elif not found:
        text.note("nothing matches; 'pkgdata catalog search' without a TERM lists all datasets")
    for one in found:
        axes = f"[{','.join(one.variants)}]" if one.variants else ""
        kind = one.types[0].rpartition(".")[2] if one.types else "?"
        text.say(f"[{one.repository}] {one.id}{axes} ({kind})")


def _row(one: Any) -> dict[str, Any]:
    plain = ("id", "repository", "title", "tags", "tasks", "types", "url", "size", "license")
    return {**{key: getattr(one, key) for key in plain}, "file": one.path, "line": one.line}


def _info(args: Namespace) -> None:
    catalog = _catalog(args)
    one = catalog.find(args.dataset)
    with catalog.active():
        facts = _facts(one)
    if args.json:
        text.json(facts)
        return
    for line in filter(None, [one.id, one.name, one.url]):
        text.say(line)
    for key in ("types", "tags", "tasks", "license", "variants", "resources", "folder", "defined"):
        if facts[key]:
            value = facts[key] if isinstance(facts[key], str) else ", ".join(facts[key])
            text.say(f"{key.capitalize()}: {value}")
    if one.description:
        print(escaped(f"\n{one.description}"))


def _facts(one: Any) -> dict[str, Any]:
    repository = one.repository
    return {
        "id": one.id,
        "title": one.name,
        "description": one.description,
        "repository": None if repository is None else repository.id,
        "url": one.url,
        "doi": getattr(one, "doi", None),
        "size": getattr(one, "size", None),
        "license": getattr(one, "license", None),
        "types": one.types,
        "tags": sorted(one.tags),
        "tasks": sorted(one.tasks),
        "variants": _variants(one),
        "resources": list(one.resources),
        "folder": str(one.datapath),
        "defined": f"{one.file}, line {one.line}",
    }


def _variants(one: Any) -> list[str]:
    found = []
    for name, axis in (getattr(one.variants, "axes", None) or {}).items():
        values = "|".join(map(str, axis.domain)) if axis.domain else "..."
        default = f" (default {axis.default})" if axis.has_default else ""
        found.append(f"{name}={values}{default}")
    return found


def _repositories(args: Namespace) -> None:
    catalog = _catalog(args)
    rows = []
    for index in catalog.indexes:
        name, description = index.describe()
        count = sum(1 for _ in index.records())
        rows.append((name, description, count, index.installed.value))
    catalog.search()  # warns of what does not load
    if args.json:
        keys = ("name", "description", "datasets", "package")
        text.json([dict(zip(keys, row, strict=True)) for row in rows])
        return
    for name, description, _, _ in rows:
        text.say(f"{name}: {description}")


# -- preparing -------------------------------------------------------------------------------------


def _download(args: Namespace) -> None:
    catalog = _catalog(args)
    found = catalog.download(args.dataset, force=args.force)
    with catalog.active():
        text.note(f"{found.id} is in {found.datapath}")


def _prepare(args: Namespace) -> None:
    found = _catalog(args).prepare(args.dataset, download=not args.no_downloads)
    print(dumps(found, args.encoder, indent=2))


# -- in order --------------------------------------------------------------------------------------


def _orphans(args: Namespace) -> int:
    found = upkeep.orphans(_catalog(args))
    if args.json:
        text.json([{**o._asdict(), "path": str(o.path), "size": o.size()} for o in found])
    else:
        for one in found:
            text.say(f"{text.size(one.size())}\t{one.path}" if args.size else str(one.path))
    if not args.remove or not found:
        return 0
    if not args.yes and (code := text.ask(f"Remove {len(found)} folders?")):
        return code
    for one in found:
        upkeep.remove(one)
    text.note(f"{text.counted(len(found), 'folder')} removed")
    return 0


def _check(args: Namespace) -> int:
    catalog = _catalog(args)
    wanted = [one.load() for one in catalog.search(*args.terms)]
    found = upkeep.check(catalog, wanted)
    rows = [one._asdict() for one in found]
    if args.output is not None:
        with open(args.output, "w", encoding="utf-8") as file:
            json.dump(rows, file, indent=2, ensure_ascii=False)
    failed = sum(one.status != "ok" for one in found)
    if args.json:
        text.json(rows)
    elif args.output is None:
        for one in found:
            line = f"{one.status:6} {one.dataset} {one.resource} {one.url}"
            text.say(f"{line}: {one.message}" if one.message else line)
    text.note(f"{text.counted(len(found), 'source')} checked, {failed} failed")
    return 3 if failed else 0


def _create(args: Namespace) -> None:
    catalog = _catalog(args)
    if len(args.words) > 2:
        args.usage("expected [REPOSITORY] NAME|URL")
    *repository, name = args.words
    found = [catalog.repository(repository[0])] if repository else catalog.repositories()
    if len(found) != 1:
        known = ", ".join(one.id for one in found) or "none"
        raise CatalogError("name the repository: REPOSITORY NAME|URL", hint=f"known: {known}")
    print(upkeep.create(found[0], name))


def _datafolders(args: Namespace) -> None:
    with _catalog(args).active():
        found = Context().settings.datafolders
    if args.json:
        text.json(found)
    else:
        for key, path in found.items():
            print(f"{key}\t{path}")


def _set_datafolder(args: Namespace) -> None:
    with _catalog(args).active():
        Context().settings.set_datafolder(args.key, args.path)


# -- elsewhere -------------------------------------------------------------------------------------


def _copy(args: Namespace) -> None:
    report = upkeep.copy(_catalog(args), args.dataset, args.where, force=args.force)
    if args.json:
        text.json(report.succeeded)
    count = text.counted(len(report.succeeded), "file")
    text.note(f"{args.dataset}: {count} in {redact(args.where)}")


def _site(args: Namespace) -> None:
    count, path = upkeep.write_site(_catalog(args), args.folder, args.title)
    text.note(f"{text.counted(count, 'dataset')} in {path}")


def _version(_: Namespace) -> None:
    print(__version__)
