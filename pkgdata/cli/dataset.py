"""``dataset ls``, ``register``, ``create``, ``pull``, ``push``, ``purge``, ``verify``, ``diff``."""

from __future__ import annotations

import os
import time
from argparse import Namespace
from typing import Any

from .. import datasets
from ..base import text
from ..datasets import Config, Outcome, repository
from ..datasets.home import unknown

_ABOUT = """A dataset is named and never changes: data/PARTITION/..., and next to
it meta.json, README.md and other files. The repository is any store; it is set in datasets.toml
next to pkgdata's config.toml, in etcetera's ~/.etc.toml, by PKGDATA_DATASETS_URL, or by --repo."""

_NAME = "name: name of the dataset"


def add(commands: Any) -> None:
    """Add these commands to the parser."""
    _, verbs = text.group(
        commands, "dataset", "push and pull whole dataset directories", description=_ABOUT
    )
    _add_local(verbs)
    _add_remote(verbs)

    verify = _verb(verbs, "verify", _verify, "hash the files of a dataset again", _NAME)
    text.add_json(verify)

    diff = _verb(verbs, "diff", _diff, "compare a dataset with the repository, or with another")
    diff.add_argument("name", metavar="NAME", help="a dataset, or a path such as ./flower")
    diff.add_argument("other", metavar="OTHER", nargs="?", help="default: the repository")
    text.add_json(diff)


def _verb(verbs: Any, name: str, run: Any, about: str, *arguments: str) -> Any:
    verb = text.command(verbs, name, run, about, *arguments)
    verb.add_argument("--repo", metavar="URL", help="repository, such as s3://bucket/prefix")
    verb.add_argument("--home", metavar="DIR", help="folder of the datasets on this computer")
    verb.add_argument("--config", metavar="FILE", help="read the settings only from this file")
    text.add_service(verb)
    return verb


def _add_local(verbs: Any) -> None:
    ls = _verb(verbs, "ls", _ls, "list the datasets on this computer")
    ls.add_argument("-r", "--remote", action="store_true", help="list those of the repository")
    ls.add_argument("-l", "--long", action="store_true", help="print what each is, and where")
    text.add_json(ls)

    register = _verb(
        verbs, "register", _register, "register a directory under a name; nothing is copied"
    )
    register.add_argument("directory", metavar="DIR", help="the directory")
    register.add_argument(
        "words", nargs="*", default=[], metavar="[as] NAME", help="default: the name of DIR"
    )
    _add_force(register)

    create = _verb(verbs, "create", _create, "create an empty dataset, to be filled", _NAME)
    create.add_argument(
        "--partition",
        action="append",
        metavar="NAME",
        help="may be repeated (default: train and test)",
    )
    _add_force(create)

    purge = _verb(
        verbs, "purge", _purge, "remove a dataset; if it is registered, only its name", _NAME
    )
    purge.add_argument("--dry-run", action="store_true", help="print what would be removed")


def _add_remote(verbs: Any) -> None:
    pull = _verb(
        verbs, "pull", _pull, "download a dataset; it appears when all of it is verified", _NAME
    )
    pull.add_argument(
        "--partition",
        action="append",
        metavar="NAME",
        help="only this one, and files outside partitions; may be repeated",
    )
    push = _verb(verbs, "push", _push, "upload a dataset to the repository", _NAME)
    push.add_argument("--compress", choices=("zstd", "none"), help="only for the format pkgdata")
    push.add_argument(
        "--prune",
        action="store_true",
        help="then remove from the repository what only older versions needed",
    )
    text.add_choice(push)
    for verb in (pull, push):
        verb.add_argument(
            "--format", choices=("pkgdata", "etcetera"), help="etcetera's is NAME.tgz"
        )
        verb.add_argument("--dry-run", action="store_true", help="print what would be transferred")
        text.add_json(verb)
        _add_force(verb)


def _add_force(verb: Any) -> None:
    verb.add_argument("-f", "--force", action="store_true", help="replace the dataset of that name")


def _config(args: Namespace) -> Config:
    given = {"url": args.repo, "home": args.home, **text.service(args)}
    given = {name: value for name, value in given.items() if value is not None}
    return Config.load(args.config).replaced(**given)


# -- this computer -----------------------------------------------------------------------------


def _ls(args: Namespace) -> None:
    rows = _remote_rows(_config(args)) if args.remote else _local_rows(_config(args))
    if args.json:
        text.json(rows)
    elif args.long:
        cells = [
            [row["name"], row["kind"], ",".join(row["partitions"] or ["?"]), row["where"]]
            for row in rows
        ]
        text.table(["NAME", "KIND", "PARTITIONS", "WHERE"], cells)
    else:
        for row in rows:
            text.say(row["name"])


def _remote_rows(config: Config) -> list[dict[str, Any]]:
    store = repository.store_of(config)
    return [
        {"name": name, "kind": "+".join(sorted(forms)), "partitions": None, "where": store.url}
        for name, forms in repository.forms(store).items()
    ]


def _local_rows(config: Config) -> list[dict[str, Any]]:
    rows = []
    for name in datasets.ls(config=config):
        path = os.path.join(config.home, name)
        kind, partitions = "registered" if os.path.islink(path) else "here", []
        try:
            partitions = datasets.Dataset(path).partitions()
        except ValueError:
            kind = "no dataset"
        where = os.path.realpath(path)
        rows.append({"name": name, "kind": kind, "partitions": partitions, "where": where})
    return rows


def _register(args: Namespace) -> None:
    words = args.words[1:] if args.words[:1] == ["as"] and len(args.words) > 1 else args.words
    if len(words) > 1:
        args.usage(f"expected DIR as NAME, found {' '.join([args.directory, *args.words])}")
    name = words[0] if words else None
    found = datasets.register(args.directory, name, args.force, _config(args))
    text.note(f"{found.name}: {found.location}")


def _create(args: Namespace) -> None:
    partitions = args.partition or datasets.operations.PARTITIONS
    print(datasets.create(args.name, partitions, args.force, _config(args)).location)


def _purge(args: Namespace) -> None:
    config = _config(args)
    path = datasets.purge(args.name, config, dry_run=args.dry_run)
    if path is None:
        known = datasets.ls(config=config)
        raise unknown(args.name, known, f"is not in {config.home}", "nothing was removed")
    text.note(f"{path} {'would be' if args.dry_run else 'was'} removed")


# -- the repository ----------------------------------------------------------------------------


def _pull(args: Namespace) -> None:
    began = time.monotonic()
    outcome = datasets.pull(
        args.name,
        args.force,
        _config(args),
        partitions=args.partition,
        format=args.format,
        dry_run=args.dry_run,
    )
    _print_outcome(args, outcome, "pulled", began)
    if not args.json and not args.dry_run:
        print(outcome.path)


def _push(args: Namespace) -> None:
    began = time.monotonic()
    outcome = datasets.push(
        args.name,
        args.force,
        _config(args),
        format=args.format,
        compress=args.compress,
        prune=args.prune,
        exclude=args.exclude,
        include=args.include,
        dry_run=args.dry_run,
    )
    _print_outcome(args, outcome, "pushed", began)


def _print_outcome(args: Namespace, outcome: Outcome, verb: str, began: float) -> None:
    if args.json:
        text.json(
            {
                "name": outcome.name,
                "path": outcome.path,
                "format": outcome.form,
                "digest": None if outcome.digest is None else str(outcome.digest),
                "files": outcome.files,
                "size": outcome.size,
                "moved_files": outcome.moved_files,
                "moved_bytes": outcome.moved_bytes,
                "objects": outcome.objects,
            }
        )
        return
    if outcome.note:
        text.note(outcome.note)
    verb = f"would be {verb}" if args.dry_run else verb
    moved, took = text.counted(outcome.moved_files, "file"), time.monotonic() - began
    how = "to move" if args.dry_run else f"moved ({text.speed(outcome.moved_bytes, took)})"
    whole = f"{text.counted(outcome.files, 'file')}, {text.size(outcome.size)}"
    text.note(f"{outcome.name} {verb}: {whole}; {moved} {how} to {outcome.path}")


# -- compare -----------------------------------------------------------------------------------


def _verify(args: Namespace) -> int:
    return text.differences(datasets.verify(args.name, _config(args)), args.json)


def _diff(args: Namespace) -> int:
    return text.differences(datasets.diff(args.name, args.other, _config(args)), args.json)
