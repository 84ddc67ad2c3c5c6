"""Qualified names: how a definition gets its name, and how a name becomes a path.

A name is dotted, most general part first, as packages of Java: ``com.lecun.mnist``. It comes from
the place of the definition below ``config`` and from the definition's own name, in the words of
datamaestro's current line: the module in lower case, the parts of a CamelCase name separated by
dots (``config/com/lecun.py``, ``ProcessedMNIST``: ``com.lecun.processed.mnist``). Its 0.8 line
made other names of the same definitions; those stay known as aliases.
"""

from __future__ import annotations

import difflib
import re
from urllib.parse import unquote, urlsplit

from ..errors import CatalogError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

#: What a part of a name may be made of.
_PART = re.compile(r"[\w-]+")

#: Endings of pages, which say nothing about what is on them.
_PAGES = re.compile(r"\.(html?|php|aspx?|jsp)$", re.IGNORECASE)


def dotted(name: str) -> str:
    """Return a CamelCase name in lower case, its parts separated by dots.

    Examples
    --------
    >>> dotted("ProcessedMNIST"), dotted("MNISTSmall"), dotted("mnist_small")
    ('processed.mnist', 'mnist.small', 'mnist_small')
    """
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", ".", name)
    return re.sub(r"(?<=[A-Z])(?=[A-Z][a-z])", ".", name).lower()


def of_definition(place: str, name: str, wanted: str | None) -> tuple[str, set[str]]:
    """Return the name of a definition and the names that it had before.

    ``place`` is its module below ``config``. ``wanted`` is what its author asks for: a whole name
    (with a dot in it), an end of it (after a dot, or without one), or ``""`` for the module's name.
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
    return check(found), aliases - {found}


def _joined(*parts: str) -> str:
    return ".".join(filter(None, parts))


def check(name: str) -> str:
    """Return a name if it is one."""
    if not all(_PART.fullmatch(part) for part in name.split(".")):
        raise CatalogError(
            f"{name!r} is no name of a dataset",
            hint="expected letters, digits, '_' and '-' with dots between the parts, "
            "such as com.lecun.mnist",
        )
    return name


def of_url(url: str) -> str:
    """Return the name that a page's address suggests: its host backwards, then its path.

    Examples
    --------
    >>> of_url("http://yann.lecun.com/exdb/mnist/index.html")
    'com.lecun.yann.exdb.mnist'
    """
    parts = urlsplit(url)
    if not parts.hostname:
        raise CatalogError(f"{url!r} has no host to make a name of")
    host = parts.hostname.removeprefix("www.").split(".")
    path = [_PAGES.sub("", unquote(part)) for part in parts.path.split("/")]
    if path[-1].lower() in ("index", "default", "home"):
        path.pop()
    words = [re.sub(r"[^\w-]+", "_", part).strip("_") for part in [*host[::-1], *path]]
    return check(".".join(word.lower() for word in words if word))


def split_repository(name: str) -> tuple[str, str | None]:
    """Split ``NAME@REPOSITORY``, as prepared data have it; without a repository it is None."""
    base, at, repository = name.partition("@")
    return base, repository if at else None


def split_selector(name: str) -> tuple[str, str]:
    """Split ``NAME[axis=value,...]``; the selector keeps its brackets."""
    base, bracket, rest = name.partition("[")
    return base.strip(), bracket + rest


def close_to(name: str, known: Iterable[str]) -> list[str]:
    """Return up to three known names that are most like an unknown one.

    A name that ends alike is close, too: people forget the beginning.
    """
    all_names = list(known)
    last = name.lower().rpartition(".")[2]
    ends = [one for one in all_names if last and one.lower().rpartition(".")[2] == last]
    close = difflib.get_close_matches(name.lower(), all_names, 3, 0.6)
    return list(dict.fromkeys([*ends[:3], *close]))[:3]


def file_variable(filename: str) -> str:
    """Return the name of a file's variable in a definition: the file's name up to its first dot."""
    return re.sub(r"\..*$", "", filename)


def argument(name: str) -> str:
    """Return the name under which a resource is passed to a function."""
    return name if name.isidentifier() else re.sub(r"\W", "_", name)
