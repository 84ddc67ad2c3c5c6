"""One unpinned URL on its way here: its sources, the transfer, and what is told when all fail."""

from __future__ import annotations

import os

from ...base.config import conf, is_offline, resolve
from ...base.urls import redact
from ...cache import unpinned_dirs
from ...cache.unpinned import UNCHANGED, Scratch, UrlCache, folder_name
from ...cache.validators import Validators
from ...errors import AllMirrorsFailedError, CacheError, PkgdataError
from ...stores import Body, Source
from ...transfer.limits import Limits
from ...transfer.one import Transfer, unexpected_page

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from ...base.progress import Callback
    from ...cache.partial import Partial

#: Endings of files that are never HTML pages.
_DATA = frozenset(
    (
        *("fits", "fit", "fts", "asdf", "vot", "ecsv", "csv", "tbl", "dat", "bin", "json", "bsp"),
        *("h5", "hdf5", "hdf", "nc", "npy", "npz", "parquet", "png", "jpg", "jpeg", "tif", "tiff"),
        *("gz", "bz2", "xz", "zst", "z", "zip", "tar", "tgz", "7z"),
    )
)


class Job:
    """One URL to fetch.

    Parameters
    ----------
    sources : sequence of str or None
        Where to fetch it instead of from the URL itself.
    pkgname : str
        Whose cache it is for.
    show : callable
        Is told about the progress.
    insecure : bool
        See `pkgdata.compat.astropy.source.Wish`.

    Raises
    ------
    KeyError
        There are no sources.
    UrlOfflineError
        Nothing may be fetched.
    """

    def __init__(
        self,
        url: str,
        sources: Sequence[str] | None,
        pkgname: str,
        show: Callback,
        timeout: float | None = None,
        headers: Mapping[str, str] | None = None,
        tls: Mapping[str, Any] | None = None,
        insecure: bool = False,
    ) -> None:
        self.url = url
        self._from = [url] if sources is None else list(dict.fromkeys(sources))
        self._pkgname = pkgname
        self._show = show
        self._timeout = timeout
        self._wishes = (headers, tls, insecure)
        if not self._from:
            raise KeyError(f"{url} is not in the cache, and no source is listed to fetch it from")
        if is_offline():  # before anything that speaks HTTP is imported
            raise self._offline()

    def _offline(self) -> PkgdataError:
        from .errors import UrlOfflineError

        why = "allow_internet is false or offline is true"
        return UrlOfflineError(
            f"URL {redact(self.url)} was to be downloaded, but {why}",
            hint="'pkgdata config' shows where that is set",
            name=self.url,
            reason=why,
        )

    def to_temporary(self) -> str:
        """Bring the URL into a temporary file and return its path."""
        with Scratch() as partial:
            self.fill(partial)
        return partial.path

    def into(self, cache: UrlCache, update: bool, rescue: Callable[[str, OSError], str]) -> str:
        """Bring the URL into a cache and return its path there.

        Parameters
        ----------
        update : bool
            Fetch it even if it is there, unless the server says that it is the same.
        rescue : callable
            See `UrlCache.obtain`.
        """
        from ...cache.objects import Cache

        try:
            root = unpinned_dirs.beside(self._pkgname)
        except CacheError:  # no home directory, but a place for the downloads
            return cache.obtain(self.url, None, self.fill, update, rescue)
        validators = Validators(root, self._pkgname, folder_name(self.url))
        here = cache.find(self.url) if update else None

        def fill(partial: Partial) -> object:
            return self.fill(partial, validators, here)

        try:
            locker = Cache(root, conf.lock_timeout)
            return cache.obtain(self.url, locker, fill, update, rescue)
        except CacheError as error:
            raise _as_oserror(error) from error

    def fill(
        self, partial: Partial, validators: Validators | None = None, here: str | None = None
    ) -> object:
        """Write the bytes of the URL into a file.

        Parameters
        ----------
        here : str, optional
            File with the bytes that need not be fetched if they are the server's.

        Returns
        -------
        object
            `UNCHANGED` if they are.

        Raises
        ------
        UrlFailedError
            No source could serve it.
        DownloadSpaceError
            The disk is full.
        """
        from ...base.progress import DONE, FAILED, Event

        try:
            result = self._run(partial, validators, here)
        except BaseException:
            self._show(Event(self._name(), FAILED))
            raise
        self._show(Event(self._name(), DONE, partial.offset, partial.offset))
        return result

    def _run(self, partial: Partial, validators: Validators | None, here: str | None) -> object:
        from ...transfer.mirrors import first_good

        limits = Limits(conf.download_block_size, conf.stall_bytes, conf.stall_seconds)
        transfer = Transfer(self._name(), partial, None, None, limits, self._show, check=unexpected)
        sources = self._open(validators, here)
        origin = {id(source): url for source, url in sources}

        def attempt(source: Source) -> object:
            from .source import UnmodifiedError

            try:
                transfer.run(source.store, source.name)
            except UnmodifiedError:
                if validators is not None and here is not None:
                    validators.confirm(origin[id(source)], here)
                return UNCHANGED
            if validators is not None:
                ask: Callable[[], dict[str, str]] = getattr(source.store, "validators", dict)
                validators.note(origin[id(source)], ask(), os.fstat(partial.fd))
            return None

        try:
            return first_good(self.url, [one for one, _ in sources], attempt, _rounds())
        except AllMirrorsFailedError as error:
            raise self._failure(error, sources[0][0]) from error.attempts[0][1]
        except CacheError as error:
            raise _as_oserror(error) from error

    def _name(self) -> str:
        """Return the URL without its secrets and its query, for bars and errors."""
        return redact(self.url.partition("?")[0].partition("#")[0])

    def _open(self, validators: Validators | None, here: str | None) -> list[tuple[Source, str]]:
        from .source import Wish, open_url

        timeout = conf.remote_timeout if self._timeout is None else self._timeout
        wish = Wish(timeout, *self._wishes)
        found = []
        for url in self._from:
            known = {}
            if validators is not None and here is not None:
                known = validators.conditions(url, here)
            found.append((Source(open_url(url, wish, known), ""), url))
        return found

    def _failure(self, error: AllMirrorsFailedError, first: Source) -> PkgdataError:
        from .errors import failed

        attempts = list(error.attempts)
        lines = [getattr(one, "message", str(one)) for _, one in attempts]
        if len(self._from) == 1:
            hint = getattr(attempts[0][1], "hint", None)
            answer = getattr(first.store, "answer", {})
            facts = answer if answer.get("code", 0) >= 300 else {}
            return failed(lines[0], attempts, name=self.url, hint=hint, **facts)
        listed = "".join(f"\n  {line}" for line in lines)
        return failed(
            f"unable to open any source of {redact(self.url)}:{listed}",
            attempts,
            name=self.url,
            hint=error.hint,
        )


def unexpected(name: str, head: bytes, size: int, body: Body) -> str | None:
    """Say why bytes cannot be what a URL was asked for; more patient than for a package's files.

    Parameters
    ----------
    name : str
        URL without its query.
    head : bytes
        First bytes.

    Returns
    -------
    str or None
        A file may be empty if its length says so, and HTML unless its name is that of data.
    """
    if size == 0:
        return None if body.size == 0 else "the server sent no bytes"
    file = name.partition("://")[2].partition("/")[2].rpartition("/")[2]
    ending = file.rpartition(".")[2].lower()
    page = body.kind == "file" or ending not in _DATA
    # compressed or not is the caller's business: the bytes are kept as they came
    return unexpected_page("page.html" if page else file, head, size, Body(0, None))


def _as_oserror(error: CacheError) -> CacheError:
    """Return the error for a disk that is full or fails, as one that is an OSError too."""
    from .errors import DownloadSpaceError

    if isinstance(error, OSError):
        return error
    return DownloadSpaceError(error.message, hint=error.hint)


def _rounds() -> int:
    """Return how often all sources are tried again; once, if nobody asked for more.

    Callers who know astropy expect an error after one timeout, not after five.
    """
    retries, where = resolve("retries")
    return 1 if where == "default" else int(retries)
