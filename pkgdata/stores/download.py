"""Objects by their full URLs."""

from __future__ import annotations

from urllib.parse import unquote

from ..base import pool, urls
from ..base.config import conf
from ..base.progress import ended, view
from ..errors import ConfigError
from .objects import Result
from .reading import Get
from .store import Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from ..base.progress import Callback


def dl(
    addresses: str | Iterable[str],
    *,
    anonymous: bool | None = None,
    raw: bool = False,
    errors: str = "raise",
    progress: bool | Callback | None = None,
) -> Any:
    """Read objects by their full URLs, from any stores at once.

    Parameters
    ----------
    addresses : str or iterable of str
    anonymous, raw, errors, progress
        See `Store` and `Store.get`.

    Returns
    -------
    bytes, or list of Result
        In the order of the URLs, with these as names.
    """
    stores: dict[str, Store] = {}

    def read(address: str) -> Result:
        base, name = split(address)
        store = stores.get(base)
        if store is None:
            store = stores[base] = Store(base, anonymous=anonymous)
        return Get(store, raw).one(name)._replace(name=address)

    if isinstance(addresses, str):
        return read(addresses).content
    addresses, results = [*addresses], []
    show = view(progress, len(addresses))
    threads = max(1, int(conf.connections))
    for address, result, error in pool.run(read, addresses, threads, ordered=True):
        found = result or Result(address, None, error)
        show(ended(address, len(found.content or b""), error))
        if error is not None and errors == "raise":
            raise error
        results.append(found)
    return results


def split(address: str) -> tuple[str, str]:
    """Cut the URL of an object into its folder's and its name there."""
    kind = urls.scheme(address)
    head, _, query = address.partition("?") if kind in ("http", "https") else (address, "", "")
    base, slash, name = head.rpartition("/")
    if not slash or not name or base.endswith(":/"):
        raise ConfigError(f"{urls.redact(address)}: expected the URL of an object")
    if kind in ("http", "https", "file"):
        name = unquote(name)
    return f"{base}/" + (f"?{query}" if query else ""), name
