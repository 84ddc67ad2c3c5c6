"""One object from the first good of its sources into a file: what every download goes through."""

from __future__ import annotations

import contextlib
from typing import NamedTuple

from ..base.config import conf
from ..base.progress import DONE, FAILED, Event, silent
from . import mirrors
from .limits import Limits, configured
from .one import Transfer, unexpected_page

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

    from ..base.hashes import Digest
    from ..base.progress import Callback
    from ..stores import Body, Source
    from .one import Target


class Fetched(NamedTuple):
    """What came, and from where."""

    digest: Digest
    source: Source


def fetch(
    name: str,
    target: Target,
    sources: Sequence[Source],
    digest: Digest | None,
    size: int | None = None,
    show: Callback = silent,
    *,
    limits: Limits | None = None,
    check: Callable[[str, bytes, int, Body], str | None] = unexpected_page,
    **rounds: Any,
) -> Fetched:
    """Fill a file from the first source that has the right bytes; limits and retries as configured.

    See `Transfer` for ``target`` and ``check``, `mirrors.first_good` for ``rounds`` and errors.
    """
    rounds.setdefault("retries", int(conf.retries))
    transfer = Transfer(
        name, target, digest, size, limits or configured(), show, others=sources, check=check
    )
    return mirrors.first_good(
        name,
        sources,
        lambda source: Fetched(transfer.run(source.store, source.name), source),
        **rounds,
    )


@contextlib.contextmanager
def shown(name: str, show: Callback, size: Callable[[], int]) -> Iterator[None]:
    """Report at the end of a block that an object is here, of ``size()`` bytes, or has failed."""
    try:
        yield
    except BaseException:
        show(Event(name, FAILED))
        raise
    done = size()
    show(Event(name, DONE, done, done))
