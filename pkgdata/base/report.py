"""What lookup and batches read and answer: names, texts of files, `Place`, `Report`, `Tally`."""

from __future__ import annotations

import os
import sys
import time

from ..errors import BatchError, ConfigError, UnsupportedOperationError, required
from . import fs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

#: What `Place.state` says.
HIT, ABSENT, WRONG, UNTRIED = "found", "absent", "wrong", "not tried"

#: Bytes of JSON and of TOML that somebody else may have written: parsed they take many times that.
MOST_JSON, MOST_TOML = 64 << 20, 4 << 20

#: Errors that a `Tally` keeps, so that it stays small.
_MOST_ERRORS = 10


def one_name(given: object) -> str | None:
    """Return the one name, with ``/``, that a text or a path is; None for anything else."""
    if isinstance(given, str):
        return given
    return os.fsdecode(given).replace(os.sep, "/") if isinstance(given, os.PathLike) else None


def each_name(given: Any) -> Iterable[Any]:
    """Return the names of one name or of many; what is no name, the caller refuses."""
    name = one_name(given)
    if name is not None:
        return [name]
    # how many there are is kept for the bars, and an endless iterable stays one
    return [*map(plain_name, given)] if hasattr(given, "__len__") else map(plain_name, given)


def plain_name(given: Any) -> Any:
    """Return a name that is a path as a text; anything else as it is."""
    name = one_name(given)
    return given if name is None else name


def parse_json(
    content: str | bytes,
    wrong: Callable[[str], Exception],
    most: int | None = MOST_JSON,
    **options: Any,
) -> Any:
    """Return JSON that others wrote; raise what `wrong` makes of the reason if that fails."""
    import json  # few need it, and its import takes as long as opening a folder

    if most is not None and len(content) > most:
        raise wrong(f"it has more than {most} bytes")
    try:
        return json.loads(content, **options)
    except RecursionError:  # of thousands of brackets
        reason = "nested too deeply"
    except ValueError as error:
        reason = f"not JSON: {error}"
    raise wrong(reason)


def read_json(path: str, wrong: Callable[[str], Exception], opener: Any = None) -> Any:
    """Return what a file holds as `parse_json` does; OSError if there is none."""
    with open(path, "rb", opener=opener or fs.regular) as file:
        return parse_json(file.read(MOST_JSON + 1), wrong)


def read_text(path: str, most: int | None = None) -> str:
    """Return a file's text; OSError if there is none, ValueError if not UTF-8 or too long."""
    content = _in_archive(path)
    if content is None:
        with open(path, "rb", opener=fs.regular) as file:
            content = file.read(-1 if most is None else most + 1)
    if most is not None and len(content) > most:
        raise ValueError(f"it has more than {most} bytes")
    content = content.removeprefix(b"\xef\xbb\xbf")  # some editors on Windows begin files so
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(f"line {line}: not UTF-8 text ({error.reason})") from None


def read_toml(path: str) -> dict[str, Any]:
    """Return the tables of a TOML file; `ConfigError` if it cannot be read."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        tomllib = required("tomli", "TOML")
    try:
        found: dict[str, Any] = tomllib.loads(read_text(path, MOST_TOML))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:  # of thousands of brackets
        raise ConfigError(f"{path}: {error}", hint="fix the TOML syntax") from None
    return found


def is_file(path: str) -> bool:
    """Return True if there is a file that `read_text` can read."""
    return os.path.isfile(path) or _in_archive(path) is not None


def _in_archive(path: str) -> bytes | None:
    """Return what a file holds that lies in a zip archive which Python imports from."""
    if os.path.isdir(os.path.dirname(path) or "."):
        return None
    import zipimport

    try:
        return zipimport.zipimporter(os.path.dirname(path)).get_data(path)
    except (ImportError, OSError):
        return None


class InNotebook:
    """What notebooks show as HTML, see `pkgdata.base.notebook`."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        from . import notebook

        return notebook.html(self)


class Rows(InNotebook, list):  # type: ignore[type-arg]  # to subscript it would import typing
    """A list that notebooks show as a table."""


class Place:
    """One place that lookup tries.

    Parameters
    ----------
    kind : str
        ``"package"``, ``"node cache"``, ``"variable"``, ``"configured folder"``,
        ``"package folder"``, ``"site cache"``, ``"user cache"`` or ``"mirror"``.
    where : str
        Path or redacted URL.
    state : str
        ``"found"``, ``"absent"``, ``"wrong"`` or ``"not tried"``.
    note : str
        What is wrong, or which setting named the place.
    """

    __slots__ = ("kind", "note", "state", "where")

    def __init__(self, kind: str, where: str, state: str, note: str = "") -> None:
        self.kind = kind
        self.where = where
        self.state = state
        self.note = note

    def __repr__(self) -> str:
        return f"Place({self.kind!r}, {self.where!r}, {self.state!r}, {self.note!r})"


class HostShare:
    """What came to one machine of many.

    Parameters
    ----------
    origin : int, default 0
        Bytes that it asked the mirrors for.
    peers : int, default 0
        Bytes that came from other machines.
    seconds : float, default 0
        Until all was there.
    files : int, default 0
        How many came; the rest was there already.
    """

    __slots__ = ("files", "origin", "peers", "seconds")

    def __init__(
        self, origin: int = 0, peers: int = 0, seconds: float = 0.0, files: int = 0
    ) -> None:
        self.origin = origin
        self.peers = peers
        self.seconds = seconds
        self.files = files

    def __repr__(self) -> str:
        return (
            f"HostShare(origin={self.origin}, peers={self.peers}, seconds={self.seconds:.2f}, "
            f"files={self.files})"
        )


class Report(InNotebook):
    """What became of a batch.

    Parameters
    ----------
    retry : callable
        Called with names; fetches them and returns a `Report`.

    Attributes
    ----------
    succeeded : dict of str to str
        Path by name.
    failed : dict of str to Exception
        Error by name.
    new : dict of str to int
        Bytes by name of what `PackageData.fetch` brought here; the rest was here already, as are
        the bytes of a download that was resumed.
    seconds : float
        How long it took.
    hosts : dict of str to HostShare
        What came to each machine, by its host name, if there were several (``on=``).
    """

    def __init__(self, retry: Callable[[list[str]], Report]) -> None:
        self.succeeded: dict[str, str] = {}
        self.failed: dict[str, Exception] = {}
        self.new: dict[str, int] = {}
        self.hosts: dict[str, HostShare] = {}
        self.seconds = 0.0
        self._began = time.monotonic()
        self._retry = retry

    @property
    def bytes(self) -> int:
        """Bytes of all that is new."""
        return sum(self.new.values())

    def __getstate__(self) -> dict[str, Any]:
        # how to try again does not cross a process pool, the outcome does
        return {**self.__dict__, "_retry": _retry_elsewhere}

    def retry(self) -> Report:
        """Fetch what failed once more.

        Returns
        -------
        Report
            Of the failures alone.

        Raises
        ------
        BatchError
            Some failed again.
        """
        return self._retry(list(self.failed))

    def __repr__(self) -> str:
        found = f"{len(self.succeeded)} succeeded, {len(self.failed)} failed"
        if self.new:
            found += f", {len(self.new)} new: {self.bytes} bytes in {self.seconds:.2f} s"
        if self.hosts:
            origin, peers = (
                sum(getattr(share, what) for share in self.hosts.values())
                for what in ("origin", "peers")
            )
            hosts = f"{len(self.hosts)} host{'' if len(self.hosts) == 1 else 's'}"
            found += f", {hosts}: {origin} bytes from the origin, {peers} from peers"
        return f"<Report: {found}>"

    def raise_if_failed(self, name: str, verb: str = "fetched") -> None:
        """Take the time, and raise if anything failed.

        Parameters
        ----------
        name : str
            The package or store, for the message.
        verb : str, default ``"fetched"``
            What was done with the files.

        Raises
        ------
        BatchError
        """
        self.seconds = time.monotonic() - self._began
        if not self.failed:
            return
        total = len(self.failed) + len(self.succeeded)
        lines = [f"  {key}: {short(error)}" for key, error in self.failed.items()]
        more = [f"  … and {len(lines) - 10} more"] if len(lines) > 10 else []
        raise BatchError(
            f"{len(self.failed)} of {total} files of {name} could not be {verb}:\n"
            + "\n".join(lines[:10] + more),
            hint="error.report.failed has each error, error.report.retry() tries these again",
            command="the same command tries these again",
            report=self,
        )


def tried(fetch: Callable[..., Report], *args: Any, **options: Any) -> Report:
    """Return the report of a fetch, also of one that raises because some files failed."""
    try:
        return fetch(*args, **options)
    except BatchError as error:
        report: Report = error.report
        return report


class Tally:
    """What became of many objects: counts and the first errors; a `Report` has each of them."""

    def __init__(self) -> None:
        self.done = 0
        #: Copies that existed and were skipped.
        self.kept = 0
        self.failed = 0
        self.removed = 0
        self.unchanged = 0
        self.bytes = 0
        #: The first of them.
        self.errors: list[Exception] = []

    def add(self, size: int | None, error: Exception | None) -> None:
        """Count a copy; it has no size if it existed and was skipped."""
        if error is not None:
            self.refuse(error)
        elif size is None:
            self.kept += 1
        else:
            self.done += 1
            self.bytes += size

    def refuse(self, error: Exception) -> None:
        """Count a failure."""
        self.failed += 1
        if len(self.errors) < _MOST_ERRORS:
            self.errors.append(error)


def _retry_elsewhere(names: list[str]) -> Report:
    raise UnsupportedOperationError(
        "this report comes from another process, which alone can try again",
        hint="report.failed has the names",
    )


def short(error: Exception) -> str:
    """Return the most useful line of an error: of several mirrors, what the first one said."""
    attempts = getattr(error, "attempts", ())
    line = str(attempts[0][1] if attempts else error).splitlines()[0]
    return line.removesuffix("; looked in")  # the places are on the lines below
