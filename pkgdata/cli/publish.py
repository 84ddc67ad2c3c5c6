"""``publish`` and ``registry``: upload files, prove it by downloading again; make a registry."""

from __future__ import annotations

import json
import os
from argparse import Namespace
from collections.abc import Sequence
from typing import Any

from ..base import fs, text
from ..base.config import conf
from ..base.progress import Bar, Callback, Event, view, wanted
from ..base.report import read_json
from ..base.urls import scheme
from ..core import scan
from ..core.registry import Registry
from ..errors import PublishError
from ..publish import destinations_for, engine, records
from ..publish.engine import Publication
from ..publish.landing import About
from ..publish.plan import Plan, PublishTable, load_registry, odd_names, settings_of, write_registry
from ..publish.readback import Finding, Mirror, mirrors_of

_ABOUT = "upload files, write their registry, prove it by a download"


def add(commands: Any) -> None:
    """Add these commands to the parser."""
    _add_registry(commands)
    parser = text.command(commands, "publish", run, _ABOUT)
    add_arguments(parser)


def add_arguments(parser: Any) -> None:
    """Add the arguments of ``publish``."""
    parser.add_argument("folder", nargs="?", metavar="DIR", help="all files below it")
    parser.add_argument(
        "--to",
        action="append",
        metavar="DEST",
        help="destination: /FOLDER, sftp://HOST/FOLDER, s3://BUCKET/PREFIX, gs://…, az://…, "
        "pages:OWNER/REPO, github:OWNER/REPO@TAG, figshare:, zenodo:; may be repeated",
    )
    parser.add_argument(
        "--registry", metavar="FILE", help="default: that of --package, or DIR/registry.txt"
    )
    parser.add_argument(
        "--package",
        metavar="PKG",
        help="publish to what its pkgdata.toml names; a name, or a folder such as ./src/mypkg",
    )
    parser.add_argument(
        "--url",
        action="append",
        metavar="URL",
        help="public URL of the files; once for each --to, or for each file: and sftp:",
    )
    parser.add_argument(
        "--replace",
        action="append",
        default=[],
        metavar="NAME",
        help="replace the published bytes of this file; may be repeated",
    )
    parser.add_argument("--dry-run", action="store_true", help="print what would be done")
    parser.add_argument(
        "--check", action="store_true", help="only download and compare again; needs no DIR"
    )
    parser.add_argument(
        "--index",
        action="store_true",
        help="put an index.html next to the files; later runs keep it true",
    )
    text.add_choice(parser)
    text.add_json(parser)
    _add_options(parser)


#: Options of some destinations, by the names that these know them by.
_OPTIONS = ("public", "storage_class", "publish", "sandbox", "title", "metadata")


def _add_options(parser: Any) -> None:
    some = parser.add_argument_group("options of some destinations")
    some.add_argument(
        "--public", action="store_true", default=None, help="buckets: give each object an ACL"
    )
    some.add_argument("--storage-class", metavar="CLASS", help="buckets: such as STANDARD_IA")
    some.add_argument(
        "--publish",
        action="store_true",
        default=None,
        help="zenodo: publish the record, which cannot be undone",
    )
    some.add_argument("--title", metavar="TEXT", help="zenodo, figshare: of a new record")
    some.add_argument(
        "--metadata", metavar="FILE", help="zenodo, figshare: JSON with more fields of a new record"
    )
    some.add_argument(
        "--sandbox", action="store_true", default=None, help="zenodo: its test service"
    )
    text.add_service(parser, anonymous=None)


def _options(args: Namespace) -> dict[str, Any]:
    found = {name: getattr(args, name) for name in _OPTIONS} | text.service(args)
    if args.metadata is not None:
        path = args.metadata
        found["metadata"] = read_json(path, lambda why: PublishError(f"{path}: {why}"))
        if not isinstance(found["metadata"], dict):
            raise PublishError(f"{args.metadata}: expected an object with the record's fields")
    return found


def run(args: Namespace) -> int:
    """Publish, or check what is published; return the exit code, 3 if a file differs."""
    settings = settings_of(args.package) if args.package else None
    if args.check:
        return _check(args, settings)
    if args.folder is None:
        raise PublishError("no folder is named: pkgdata publish DIR")
    return _publish(args, settings)


def _registry_file(args: Namespace, settings: PublishTable | None) -> str:
    if args.registry:
        return str(args.registry)
    if settings is not None:
        return settings.registry_file
    if args.folder is None:
        raise PublishError("no registry is named: use --registry FILE or --package PKG")
    return os.path.join(args.folder, "registry.txt")


def _show(stage: str, files: int, total: int) -> Callback:
    if stage == "hashing":
        return Bar(stage, files, total, shown=wanted(conf.progress))
    drawn = view(conf.progress, files, total)

    def show(event: Event) -> None:
        # the same file at two destinations counts twice
        name = f"{event.source}/{event.name}"
        drawn(Event(name, event.state, event.done, event.total, event.source))

    return show


# -- publishing --------------------------------------------------------------------------------


def _publish(args: Namespace, settings: PublishTable | None) -> int:
    options = _options(args)
    if settings is not None and settings.public and not args.to:
        options["public"] = True
    places = args.to or (settings.to if settings is not None else [])
    given = args.url or (settings.urls if settings is not None and not args.to else [])
    destinations = destinations_for(places, given, **options)
    file = _registry_file(args, settings)
    index = bool(args.index or (settings is not None and settings.index))
    if index and not any(one.shows_pages for one in destinations):
        raise PublishError("--index: none of these destinations shows an index.html to visitors")
    choice = text.Choice(args.exclude, args.include, junk=True)
    with Publication(args.folder, destinations, file, args.replace, _show, choice) as work:
        plans = work.plan()
        _note_names(choice, odd_names(item.name for item in work.items))
        if args.dry_run:
            return _print_plans(plans, args.json)
        work.check_page(index)
        work.refuse()
        for plan in plans:
            text.note(_summary(plan))
        work.upload()
        written = work.record()
        count = text.counted(len(work.registry), "file")
        text.note(f"{file}: {count}{'' if written else ', unchanged'}")
        for plan in plans:
            if plan.destination.delay and not plan.destination.private:
                minutes = plan.destination.delay / 60
                text.note(
                    f"{plan.destination.url}: may show the files late; up to {minutes:.0f} min"
                )
        findings = work.prove()
        pages = work.add_page(_about(settings, args), index)
        _print_outcome(work, findings, pages, settings, args.json)
        return _code(findings)


def _note_names(choice: text.Choice, odd: Sequence[str]) -> None:
    """Report which files are left out, and names that trouble some users."""
    if line := choice.note():
        text.note(line)
    for line in odd[:5]:
        text.complain(f"pkgdata: warning: {line}")
    if len(odd) > 5:
        text.complain(f"pkgdata: warning: … and {len(odd) - 5} more such names")


def _about(settings: PublishTable | None, args: Namespace) -> About:
    folder = os.path.basename(os.path.abspath(args.folder))
    return settings.about if settings is not None else About(folder)


def _summary(plan: Plan) -> str:
    found = {"new": plan.new, "to replace": plan.replaced, "there": plan.there}
    counted = ", ".join(f"{len(items)} {what}" for what, items in found.items() if items)
    size = text.size(sum(item.size for item in plan.to_send))
    return f"{plan.destination.url}: {counted}; {size} to send"


def _print_plans(plans: Sequence[Plan], as_json: bool) -> int:
    rows = [
        (state, plan.destination.url, what if isinstance(what, str) else what.name)
        for plan in plans
        for state, what in plan.rows()
    ]
    value = [{"to": to, "state": state, "name": name} for state, to, name in rows]
    text.json_or_table(as_json, value, ["STATE", "TO", "NAME"], rows)
    for plan in plans:
        text.note(_summary(plan))
    return 3 if any(plan.differs for plan in plans) else 0


def _print_outcome(
    work: Publication,
    findings: Sequence[Finding],
    pages: Sequence[str],
    settings: PublishTable | None,
    as_json: bool,
) -> None:
    """Print what became of each file, and what is left for the maintainer to do."""
    bad = {one.mirror for one in findings if one.state != "ok"}
    # what was not read back is no address to give to users
    bases = [p.destination.dataurl for p in work.plans if p.destination.url not in bad]
    dataurl = [base for base in bases if base is not None]
    here = [base for base in dataurl if scheme(base) == "file"]
    dois = [plan.destination.doi for plan in work.plans if plan.destination.doi]
    if as_json:
        text.json({**_as_json(findings), "dataurl": dataurl, "doi": dois, "pages": pages})
    else:
        _print_findings(findings)
    for plan in work.plans:
        # a draft is read back well, but is not what the maintainer wanted to end with
        if plan.destination.url in bad or plan.destination.private:
            advice = plan.destination.advice()
            if advice:
                text.note(advice)
    for doi in dois:
        text.note(f"DOI: {doi}")
    for page in pages:
        text.note(f"page: {page}")
    if dataurl and (settings is None or settings.dataurl != dataurl):
        where = settings.toml if settings is not None else "pkgdata.toml"
        # JSON's list is the same as TOML's for plain texts
        text.note(f"for {where}:\ndataurl = {json.dumps(dataurl, ensure_ascii=False)}")
    for base in here:
        text.note(
            f"{base} only serves this machine; once a web server shows the folder, publish again "
            "with --url URL, which is then the dataurl"
        )
    for plan in work.plans:
        total = sum(item.size for item in plan.to_send)
        place, kept = f"to {plan.destination.url}", len(plan.there)
        sent, took = len(plan.to_send), plan.took
        text.note(text.closing("uploaded", sent, total, place=place, took=took, already_there=kept))


# -- checking ----------------------------------------------------------------------------------


def _check(args: Namespace, settings: PublishTable | None) -> int:
    registry = Registry.load(_registry_file(args, settings))
    mirrors = _mirrors(args, settings, registry)
    if not any(mirror.entries for mirror in mirrors):
        raise PublishError(
            "nothing to check: the registry is empty, or nothing says where its files are",
            hint="use --url URL, --to DEST or --package PKG",
        )
    findings = engine.check(mirrors, _show)
    if args.json:
        text.json(_as_json(findings))
    else:
        _print_findings(findings)
    return _code(findings)


def _mirrors(args: Namespace, settings: PublishTable | None, registry: Registry) -> list[Mirror]:
    if args.url and not args.to:
        bases = [*args.url]
    elif args.to:
        options = _options(args)
        found = [one.dataurl for one in destinations_for(args.to, args.url or [], **options)]
        bases = [base for base in found if base is not None]
    else:
        bases = settings.dataurl if settings is not None else []
    return mirrors_of(bases, registry)


def _as_json(findings: Sequence[Finding]) -> dict[str, Any]:
    keys = ("name", "size", "mirror", "state", "note")
    rows = [(o.entry.name, o.entry.size, o.mirror, o.state, o.note) for o in findings]
    return {"files": [dict(zip(keys, row, strict=True)) for row in rows]}


def _print_findings(findings: Sequence[Finding]) -> None:
    several = len({one.mirror for one in findings}) > 1
    rows = []
    for one in findings:
        name = one.entry.name + (f"  ({one.note})" if one.note else "")
        size = text.size(one.entry.size)
        rows.append([one.state, size, *([one.mirror] if several else []), name])
    text.table(["STATE", "SIZE", *(["MIRROR"] if several else []), "NAME"], rows)
    for mirror in dict.fromkeys(one.mirror for one in findings):
        here = [one for one in findings if one.mirror == mirror]
        good = sum(one.state == "ok" for one in here)
        text.note(f"{mirror}: {good} of {len(here)} files read back as published")


def _code(findings: Sequence[Finding]) -> int:
    return 0 if all(one.state == "ok" for one in findings) else 3


# -- registry -----------------------------------------------------------------------------------


def _add_registry(commands: Any) -> None:
    _, verbs = text.group(commands, "registry", "make, check or update a registry")

    make = text.command(verbs, "make", _make, "hash every file below a folder")
    add_make_arguments(make)

    check = text.command(
        verbs, "check", _check_registry, "compare a folder with a registry", as_json=True
    )
    check.add_argument("folder", metavar="DIR", help="folder of the files")
    check.add_argument("registry", metavar="FILE", nargs="?", help="default: DIR/registry.txt")
    text.add_choice(check)

    update = text.command(
        verbs, "update", _update_registry, "add the files of a DOI's record or of a Croissant file"
    )
    default = "registry.txt"
    update.add_argument(
        "registry", metavar="FILE", nargs="?", default=default, help=f"default: {default}"
    )
    update.add_argument(
        "--from",
        dest="record",
        metavar="RECORD",
        required=True,
        help="doi:…, zenodo:N, figshare:N, or the path or URL of a croissant.json",
    )


def add_make_arguments(parser: Any) -> None:
    """Add the arguments of ``registry make``."""
    parser.add_argument("folder", metavar="DIR", help="folder of the files")
    parser.add_argument("-o", "--output", metavar="FILE", help="default: standard output")
    parser.add_argument("--alg", default="sha256", help="hash algorithm (default: sha256)")
    text.add_choice(parser)


def _make(args: Namespace) -> None:
    choice = text.Choice(args.exclude, args.include, junk=True)
    with _hashed(args.folder, choice) as bar:
        registry = scan.make(args.folder, args.alg, choice=choice, progress=bar)
    _note_names(choice, odd_names(registry))
    if args.output:
        # a registry in its own folder does not list itself
        inside = fs.name_inside(args.folder, args.output)
        registry = Registry(entry for entry in registry.values() if entry.name != inside)
        registry.write(args.output)
        text.note(f"{args.output}: {text.counted(len(registry), 'file')}")
    else:
        print(registry.dumps(), end="")


def _hashed(folder: str, choice: text.Choice) -> Bar:
    sizes = []
    if os.path.isdir(folder):  # else the library says what is wrong
        paths = [path for _, path in scan.files(folder, choice)]
        sizes = [os.path.getsize(path) for path in paths if os.path.exists(path)]
    return Bar("hashing", len(sizes), sum(sizes), shown=wanted(conf.progress))


def _check_registry(args: Namespace) -> int:
    file = args.registry or os.path.join(args.folder, "registry.txt")
    registry = Registry.load(file)
    choice = text.Choice(args.exclude, args.include, junk=True)
    with _hashed(args.folder, choice) as bar:
        found = scan.compare(args.folder, registry, choice=choice, progress=bar)
    inside = fs.name_inside(args.folder, file)
    found = found._replace(extra=[name for name in found.extra if name != inside])
    return text.differences(found, args.json)


def _update_registry(args: Namespace) -> None:
    found = records.from_record(args.record)
    before = load_registry(args.registry)
    changes = records.update(before, found)
    write_registry(args.registry, before, changes.registry)
    text.note(
        f"{args.registry}: {len(changes.added)} new, {len(changes.placed)} with a new address, "
        f"{len(found) - len(changes.added) - len(changes.placed)} unchanged"
    )
    if found.about:
        lines = [f"{key} = {text.as_json(value)}" for key, value in found.about.items()]
        text.note("\n".join(["for the table [package] of pkgdata.toml:", *lines]))
