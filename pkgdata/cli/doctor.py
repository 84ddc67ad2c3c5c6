"""``doctor``, ``config`` and ``ci-key``: how this computer is set up, and what to do about it."""

from __future__ import annotations

import difflib
import errno
import os
import platform
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from .. import __version__
from ..base import config, disk, locks, text, urls
from ..cache import upkeep
from ..cache.objects import Cache
from ..core.declaration import find_package
from ..core.lookup import Settings
from ..core.package import PackageData
from ..errors import CacheError, PkgdataError
from ..testing import ci_key

#: Variables that are no settings of `pkgdata.base.config`.
_OTHERS = ("CONFIG", "DATASETS_URL", "DATASETS_HOME", "PAGES_TOKEN")
#: Less free space than this, in bytes, is worth a word.
_LITTLE = 1_000_000_000


def add(commands: Any) -> None:
    """Add these commands to the parser."""
    parser = text.command(
        commands, "config", _config, "show each setting, and where it comes from", as_json=True
    )
    parser.add_argument(
        "name", nargs="?", metavar="SETTING", help="print only the value of this one"
    )
    parser.add_argument(
        "--show-secrets", action="store_true", help="print headers and logins in URLs as they are"
    )

    about = "check settings, folders, cache and mirrors; say what to do"
    doctor = text.command(commands, "doctor", _doctor, about, as_json=True)
    doctor.add_argument(
        "packages",
        nargs="*",
        default=[],
        metavar="PKG",
        help="also check its files, and whether its mirrors answer",
    )

    key = text.command(
        commands,
        "ci-key",
        _ci_key,
        "print the key of packages' files in the cache of a CI service",
    )
    key.add_argument("packages", nargs="+", metavar="PKG", help="package, or path of its folder")


# -- doctor ----------------------------------------------------------------------------------------


class Symptom(NamedTuple):
    """What was found of one thing: ``"ok"``, ``"note"`` or ``"wrong"``; and what to do."""

    state: str
    what: str
    found: str
    advice: str = ""


def _doctor(args: Namespace) -> int:
    config.wrong = []
    try:
        findings = _checked("setting", _of_settings)
        findings += [one for what, check in _CHECKS.items() for one in _checked(what, check)]
        findings += [one for name in args.packages for one in _checked(name, _of_package, name)]
    finally:
        config.wrong = None
    rows = [[one.state, one.what, one.found] for one in findings]
    value = [one._asdict() for one in findings]
    text.json_or_table(args.json, value, ["STATE", "WHAT", "FOUND"], rows)
    for one in findings:
        if one.advice:
            text.note(f"{one.what}: {one.advice}")
    return 3 if any(one.state == "wrong" for one in findings) else 0


def _checked(what: str, check: Callable[..., Iterator[Symptom]], *given: str) -> list[Symptom]:
    """Return what a check finds; an error that ends it is one more finding."""
    found = []
    try:
        for one in check(*given):
            found.append(one)
    except (PkgdataError, OSError) as error:
        found.append(_wrong(what, error, f"pkgdata check {given[0]}" if given else "correct it"))
    return found


def _wrong(what: str, error: Exception, otherwise: str) -> Symptom:
    why = getattr(error, "message", str(error)).partition("\n")[0]
    advice = getattr(error, "command", None) or getattr(error, "hint", None)
    return Symptom("wrong", what, why, advice or otherwise)


def _of_settings() -> Iterator[Symptom]:
    system = f"Python {platform.python_version()}, {platform.system()}"
    yield Symptom("ok", "pkgdata", f"{__version__}, {system}")
    files = [path for _, path in config.config_files() if os.path.exists(path)]
    yield Symptom("ok", "configuration", ", ".join(files) or "no file; all settings have defaults")
    for name in config.FIELDS:
        config.resolve(name)
    for error in {one.message: one for one in config.wrong or ()}.values():
        yield _wrong("setting", error, "correct it, or remove it: the default holds then")
    known = [f"PKGDATA_{name}" for name in (*map(str.upper, config.FIELDS), *_OTHERS)]
    for name in sorted(os.environ):
        if name.startswith("PKGDATA_") and name not in known:
            close = difflib.get_close_matches(name, known, 1)
            advice = f"did you mean {close[0]}?" if close else "'pkgdata config' lists all settings"
            yield Symptom("note", "variable", f"{name} is no setting", advice)


def _of_network() -> Iterator[Symptom]:
    if config.is_offline():
        where = config.resolve("offline" if config.conf.offline else "allow_internet")[1]
        advice = "files come from folders and caches alone; see 'pkgdata fetch --help' for --to"
        yield Symptom("note", "network", f"not used: pkgdata is offline ({where})", advice)
    proxies = sorted(name for name in os.environ if name.lower()[-6:] == "_proxy")
    proxies = [name for name in proxies if name.lower() != "no_proxy"]
    if proxies:
        found = ", ".join(f"{name}={_proxy(os.environ[name])}" for name in proxies)
        yield Symptom("note", "proxy", found)


def _of_certificates() -> Iterator[Symptom]:
    yield Symptom("ok", "certificates", urls.ca_bundle() or "those of Python's package certifi")


def _proxy(text: str) -> str:
    """Redact a proxy, which may stand there without a scheme."""
    return urls.redact(text if "://" in text else f"http://{text}")


def _of_folders() -> Iterator[Symptom]:
    for name, what in (("folders", "folder"), ("site_caches", "site cache")):
        paths, where = config.resolve(name)
        for path in paths:
            if os.path.isdir(path) and os.access(path, os.R_OK | os.X_OK):
                yield Symptom("ok", what, path)
                continue
            why = "cannot be read" if os.path.exists(path) else "is not there"
            reason, at = disk.obstacle(path, "")
            found = f"{path} {why}{reason and f': {reason}: {at}'} (set by {where})"
            yield Symptom("wrong", what, found, "correct the setting, or make the folder")


def _of_cache() -> Iterator[Symptom]:
    root, where = config.cache_dir()
    near = root
    while not os.path.lexists(near):
        near = os.path.dirname(near)
    if not os.path.isdir(near):
        raise Cache(root, origin=where).translate(OSError(errno.ENOTDIR, "it is no folder"))
    if not os.access(near, os.W_OK | os.X_OK):
        advice = "set PKGDATA_CACHE_DIR to a folder that can be written"
        yield Symptom("wrong", "cache", f"{root} cannot be written to ({where})", advice)
        return
    free = disk.free_bytes(near)
    found = f"{root} ({where}), {text.size(free)} free"
    if free is not None and free < _LITTLE:
        yield Symptom("note", "cache", found, "'pkgdata cache prune' removes what is not used")
    else:
        yield Symptom("ok", "cache", found)
    with disk.temporary("doctor", near) as folder:
        worth = locks.worth(os.path.join(folder, "lock"))
    advice = "" if worth == locks.GOOD else "nothing goes wrong; a file may be downloaded twice"
    yield Symptom("note" if advice else "ok", "locks", worth, advice)
    if os.path.isdir(root):
        yield from _of_contents(Cache(root))


def _of_node() -> Iterator[Symptom]:
    node = Settings("", {}, []).node
    if node is not None:
        yield Symptom("ok" if node.is_usable() else "note", "node's cache", node.root)


_CHECKS = {
    "network": _of_network,
    "certificates": _of_certificates,
    "folder": _of_folders,
    "node's cache": _of_node,
    "cache": _of_cache,
}


def _of_contents(cache: Cache) -> Iterator[Symptom]:
    space = upkeep.usage(cache)
    total = space["total"]
    yield Symptom(
        "ok", "contents", f"{text.counted(total.files, 'file')}, {text.size(total.bytes)}"
    )
    if space["unfinished"].files:
        found = f"{text.size(space['unfinished'].bytes)} of unfinished downloads"
        advice = "the next 'pkgdata fetch' resumes them; 'pkgdata cache prune' removes old ones"
        yield Symptom("note", "contents", found, advice)


def _of_package(name: str) -> Iterator[Symptom]:
    data = find_package(name)
    registry = data.registry
    here = sum(data.find(one) is not None for one in registry)
    found = f"{here} of {text.counted(len(registry), 'file')} here"
    yield Symptom("ok", name, found, "" if here == len(registry) else f"pkgdata fetch {name}")
    if not data.dataurl and not any(entry.urls for entry in registry.values()):
        if here == len(registry):
            return  # it ships them all
        advice = "write dataurl into its pkgdata.toml"
        yield Symptom("wrong", name, "nothing says where its files can be downloaded", advice)
    elif registry and not data._settings.is_offline:
        yield from _of_mirrors(data)


def _of_mirrors(data: PackageData) -> Iterator[Symptom]:
    """Ask each mirror for the smallest file of a package."""
    entry = min(data.registry.values(), key=lambda one: (one.size is None, one.size or 0))
    for source in data._downloads().sources(entry):
        began = time.monotonic()
        try:
            size = source.store.info(source.name).size
        except (PkgdataError, OSError) as error:
            yield _wrong("mirror", error, "tell the package's authors; others are tried")
            continue
        took = text.seconds(time.monotonic() - began)
        if None not in (size, entry.size) and size != entry.size:
            why = f"{source.address}: {size} bytes instead of {entry.size}"
            yield Symptom("wrong", "mirror", why, "tell the package's authors")
        else:
            yield Symptom("ok", "mirror", f"{source.address} answers in {took}")


# -- config and ci-key --------------------------------------------------------------------------


def _config(args: Namespace) -> None:
    names = [args.name] if args.name else list(config.FIELDS)
    found = {name: _value(name) for name in names}
    if not args.show_secrets:
        found = {name: (config.shown(value), where) for name, (value, where) in found.items()}
    if args.json:
        text.json({name: {"value": value, "from": where} for name, (value, where) in found.items()})
    elif args.name:
        print(shown(found[args.name][0]))
    else:
        rows = [[name, shown(value), where] for name, (value, where) in found.items()]
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


def shown(value: Any) -> str:
    """Return a value for people: of a setting, or a fact."""
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
