"""How datasets are named, and where they are once they are prepared.

A name is dotted, most general part first, as packages of Java: ``com.lecun.mnist``. It comes from
the place of the definition below ``config`` and its own name, as in the current datamaestro: the
module in lower case, the parts of a CamelCase name separated by dots (``config/com/lecun.py``,
``ProcessedMNIST``: ``com.lecun.processed.mnist``). Names of its 0.8 line are aliases. ::

  <data>/settings.json                          data folders; paths that a user gave once
  <data>/data/<repository>/<id as path>/<name>  one prepared file or folder of a dataset
  <data>/data/__custom__/<package>/...          the same, of a definition in no repository
  <data>/data/.../.<owner>.pkgdata/             what is being made, until it is complete
  <data>/data/.../.<name>.<owner>.tmp           what is being removed

A name in a dataset's folder exists only after its file or folder is complete: that is made aside,
in the same folder, and renamed. What was prepared does not change; removing the folder of a dataset
is always safe. ``<data>`` is what the caller says, else the setting ``catalog_dir``, else the
repository's own default, else ``<user data>/pkgdata``. The layout is that of datamaestro, whose
``<data>`` may be used. Downloads are in the cache, not here.
"""

from __future__ import annotations

import contextlib
import difflib
import json
import os
import re
from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from ..base import config, fs, owners
from ..base.report import read_json
from ..errors import CatalogError

#: Ends the name of a folder in which something is being made.
ASIDE = ".pkgdata"

_chosen: ContextVar[str | None] = ContextVar("pkgdata_catalog_data", default=None)


def user_data() -> str:
    """Return the folder ``<user data>/pkgdata``."""
    import platformdirs

    try:
        path = platformdirs.user_data_dir("pkgdata", appauthor=False)
    except RuntimeError:
        path = ""
    if not os.path.isabs(path):
        raise CatalogError(
            "this user has no home directory to keep datasets in",
            hint="set PKGDATA_CATALOG_DIR to a folder that can be written",
        )
    return path


def root(default: str | None = None) -> Path:
    """Return ``<data>``; the default is that of a repository."""
    chosen = _chosen.get()
    if chosen is None:
        chosen = config.conf.catalog_dir
    return Path(chosen or default or user_data())


@contextlib.contextmanager
def setting(variable: ContextVar[Any], value: Any) -> Iterator[None]:
    """Give a variable a value inside a ``with`` block, for this thread or task."""
    token = variable.set(value)
    try:
        yield
    finally:
        variable.reset(token)


def within(data: str | os.PathLike[str] | None) -> contextlib.AbstractContextManager[None]:
    """Set ``<data>`` inside a ``with`` block, for this thread or task; None changes nothing."""
    if data is None:
        return contextlib.nullcontext()
    return setting(_chosen, os.path.abspath(os.fspath(data)))


def is_aside(name: str) -> bool:
    """Return True if a name is that of something being made or removed."""
    return name.startswith(".") and owners.of(name) is not None


class UserSettings:
    """The file ``settings.json`` of ``<data>``, datamaestro's; what else it holds is kept."""

    def __init__(self, data: str | os.PathLike[str]) -> None:
        self.file = os.path.join(os.fspath(data), "settings.json")

    def _load(self) -> dict[str, Any]:
        def wrong(why: object) -> CatalogError:
            return CatalogError(f"{self.file} cannot be read: {why}", file=self.file)

        try:
            found = read_json(self.file, wrong)
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise wrong(error) from None
        if not isinstance(found, dict):
            raise CatalogError(f"{self.file}: expected a JSON object", file=self.file)
        return found

    def _table(self, key: str) -> dict[str, str]:
        found = self._load().get(key) or {}
        if not isinstance(found, dict):
            raise CatalogError(f"{self.file}: {key} is no JSON object", file=self.file)
        return {name: str(value) for name, value in found.items()}

    def _paths(self, key: str) -> dict[str, str]:
        found = self._table(key).items()
        return {name: config.expand_path(path, f"{self.file}: {name}") for name, path in found}

    def _set(self, key: str, name: str, value: str) -> None:
        everything = self._load()
        everything[key] = {**self._table(key), name: value}
        os.makedirs(os.path.dirname(self.file), exist_ok=True)
        text = json.dumps(everything, indent=2, ensure_ascii=False)
        fs.write_atomic(self.file, f"{text}\n".encode())

    @property
    def datafolders(self) -> dict[str, str]:
        """Folders by the key under which definitions ask for them."""
        return self._paths("datafolders")

    def set_datafolder(self, key: str, path: str | os.PathLike[str]) -> None:
        """Remember a data folder."""
        full = os.path.abspath(os.path.expanduser(os.fspath(path)))
        if not os.path.isdir(full):
            raise CatalogError(f"the data folder {key!r}: {full} is no folder")
        self._set("datafolders", key, full)

    @property
    def paths(self) -> dict[str, str]:
        """Paths that a user gave, by dataset and resource."""
        return self._paths("paths")

    def set_path(self, key: str, path: str | os.PathLike[str]) -> None:
        """Remember the path of ``<dataset>/<resource>``, which cannot be fetched."""
        self._set("paths", key, os.path.abspath(os.path.expanduser(os.fspath(path))))

    @property
    def agreements(self) -> dict[str, str]:
        """What the user agreed to, by key."""
        return self._table("agreements")

    def set_agreement(self, key: str) -> None:
        """Remember that the user agreed."""
        self._set("agreements", key, "yes")


class DataFolder:
    """A path below a folder that each computer has elsewhere (``pkgdata catalog datafolders``).

    Parameters
    ----------
    folderid : str
        Key of the folder.
    path : str, default ``""``
        Below it.
    """

    def __init__(self, folderid: str, path: str = "") -> None:
        self.folderid = folderid
        self.path = path

    def __repr__(self) -> str:
        return f"<DataFolder {self.folderid}/{self.path}>"

    def resolve(self, data: str | os.PathLike[str]) -> Path:
        """Return the path on this computer; `CatalogError` if the folder is not set.

        Parameters
        ----------
        data : path-like
            The folder ``<data>``.
        """
        folder = UserSettings(data).datafolders.get(self.folderid)
        if folder is None:
            raise CatalogError(
                f"the data folder {self.folderid!r} is not set",
                hint=f"pkgdata catalog datafolders set {self.folderid} DIR",
            )
        return Path(folder, self.path) if self.path else Path(folder)


# -- names -----------------------------------------------------------------------------------------

#: What a part of a name may be made of.
_PART = re.compile(r"[\w-]+")

#: Endings of pages, which say nothing about what is on them.
_PAGES = re.compile(r"\.(html?|php|aspx?|jsp)$", re.IGNORECASE)


def dotted(name: str) -> str:
    """Return a CamelCase name in lower case with dots: ``MNISTSmall`` is ``mnist.small``."""
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", ".", name)
    return re.sub(r"(?<=[A-Z])(?=[A-Z][a-z])", ".", name).lower()


def definition_name(place: str, name: str, wanted: str | None) -> tuple[str, set[str]]:
    """Return the name of a definition and the names that it had before.

    ``wanted`` is what its author asks for: a whole name (with a dot in it), an end of it (after a
    dot, or without one), or ``""`` for the module's name.
    """
    module = place.lower()
    aliases = set()
    if wanted is None:
        found = _joined(module, dotted(name))
        aliases.add(_joined(place, name.lower().replace("_", ".")))
    elif wanted == "":
        found = module
    elif wanted.startswith(".") or "." not in wanted:
        end = wanted.removeprefix(".")
        found = f"{module}.{end}" if module else end
    else:
        found = wanted
        aliases.add(_joined(place, wanted))
    return check_name(found), aliases - {found}


def _joined(*parts: str) -> str:
    return ".".join(filter(None, parts))


def check_name(name: str) -> str:
    """Return a name if it is one."""
    if not all(_PART.fullmatch(part) for part in name.split(".")):
        raise CatalogError(
            f"{name!r} is not a valid dataset name",
            hint="expected letters, digits, '_' and '-' with dots between the parts, "
            "such as com.lecun.mnist",
        )
    return name


def url_name(url: str) -> str:
    """Return the name that a page's address suggests: its host backwards, then its path."""
    parts = urlsplit(url)
    if not parts.hostname:
        raise CatalogError(f"{url!r} has no host to derive a name from")
    host = parts.hostname.removeprefix("www.").split(".")
    path = [_PAGES.sub("", unquote(part)) for part in parts.path.split("/")]
    if path[-1].lower() in ("index", "default", "home"):
        path.pop()
    words = [re.sub(r"[^\w-]+", "_", part).strip("_") for part in [*host[::-1], *path]]
    return check_name(".".join(word.lower() for word in words if word))


def split_repository(name: str) -> tuple[str, str | None]:
    """Split ``NAME@REPOSITORY``, as prepared data have it; without a repository it is None."""
    base, at, repository = name.partition("@")
    return base, repository if at else None


def split_selector(name: str) -> tuple[str, str]:
    """Split ``NAME[axis=value,...]``; the selector keeps its brackets."""
    base, bracket, rest = name.partition("[")
    return base.strip(), bracket + rest


def close_names(name: str, known: Iterable[str]) -> list[str]:
    """Return up to three similar names; also those that end alike."""
    all_names = list(known)
    last = name.lower().rpartition(".")[2]
    ends = [one for one in all_names if last and one.lower().rpartition(".")[2] == last]
    close = difflib.get_close_matches(name.lower(), all_names, 3, 0.6)
    return list(dict.fromkeys([*ends[:3], *close]))[:3]
