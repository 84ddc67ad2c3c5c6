"""Every exception and warning that pkgdata raises.

::

  PkgdataError                  .message .hint
  ├─ ConfigError                ValueError; a setting or pkgdata.toml is wrong
  ├─ UnsafeNameError            ValueError; a name that could leave its folder
  ├─ RegistryError              ValueError; .file .line
  │  └─ UnknownNameError        KeyError; .name .close
  ├─ IntegrityError             .name .source .expected .actual .attempts
  ├─ StoreError                 OSError; .url (redacted) .transient .retry_after .patience
  │  ├─ ObjectNotFoundError     FileNotFoundError
  │  ├─ ObjectExistsError       FileExistsError
  │  ├─ AccessDeniedError       PermissionError
  │  └─ UnsupportedOperationError
  ├─ MissingExtraError          ImportError
  ├─ IncompleteTransferError    ConnectionError; .url .expected .actual
  ├─ AllMirrorsFailedError      .name .attempts
  ├─ OfflineError               .name
  ├─ CacheError
  │  └─ CacheLockTimeoutError   TimeoutError; .path
  ├─ CacheDamaged               ValueError; .bad_urls .bad_files
  ├─ ExtractionError            an archive that is refused or cannot be read
  ├─ DatasetError               ValueError; .path .taken
  ├─ PublishError               what cannot be published, or not like this
  │  └─ AlreadyPublishedError   .names; published bytes do not change
  ├─ CatalogError               a definition or repository is wrong; .file .line
  │  └─ UnknownDatasetError     KeyError; .name .close
  └─ BatchError                 .report

  PkgdataWarning                UserWarning
  ├─ CacheWarning               the cache cannot be used as it should
  │  └─ CacheMissingWarning     astropy's name: there is no cache to look into or to write to
  └─ FolderWarning              a file in a predefined folder is not the right one

``IntegrityError`` means that bytes arrived and were wrong; ``IncompleteTransferError`` that too few
arrived. Every error survives pickling, since errors cross process pools.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from typing import Any


def _rebuild(cls: type[PkgdataError], args: tuple[Any, ...], state: dict[str, Any]) -> PkgdataError:
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(state)
    return error


def required(name: str, what: str) -> Any:
    """Import a package that something needs; `MissingExtraError` if it is not installed."""
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError as error:
        missing = (error.name or name).partition(".")[0]
        raise MissingExtraError(
            f"{what} needs the package {missing}, which is not installed",
            hint=f"pip install {missing}; without --no-deps, pip installs it with pkgdata-cache",
        ) from None


def escaped(text: str, but: str = "\n\t") -> str:
    """Show the characters that a terminal obeys as escapes; names and servers' answers hold any.

    They are the control characters, `but` those given, and what turns the direction of writing.
    """
    if text.isprintable():
        return text
    return "".join(c if c in but or not _is_obeyed(ord(c)) else ascii(c)[1:-1] for c in text)


def _is_obeyed(code: int) -> bool:
    control = code < 0x20 or 0x7F <= code < 0xA0
    return control or 0x202A <= code <= 0x202E or 0x2066 <= code <= 0x2069


def warn(message: str | Warning, category: type[Warning]) -> None:
    """Warn at the line of the caller's own code that led here."""
    import os
    import sys
    import warnings

    here = os.path.dirname(os.path.abspath(__file__))
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_code.co_filename.startswith(here):
        frame, level = frame.f_back, level + 1
    if isinstance(message, str):
        message = escaped(message)
    warnings.warn(message, category, stacklevel=level)


class PkgdataError(Exception):
    """Root of all pkgdata errors.

    Parameters
    ----------
    message : str
        What failed, on which object, what was expected and what was found.
    hint : str, optional
        What the reader can do about it, in Python.
    command : str, optional
        The same on the command line, where that differs.
    **facts
        Kept as attributes of the error.
    """

    hint: str | None = None
    command: str | None = None

    def __init__(
        self, message: str, *, hint: str | None = None, command: str | None = None, **facts: Any
    ) -> None:
        self.message = escaped(message)
        super().__init__(self.message)
        self.hint = hint and escaped(hint)
        if command:
            self.command = escaped(command)
        self.__dict__.update(facts)

    def __str__(self) -> str:
        return f"{self.message}\nHint: {self.hint}" if self.hint else self.message

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.args, self.__dict__.copy())


class ConfigError(PkgdataError, ValueError):
    """A setting, a configuration file or a declaration is wrong."""


class UnsafeNameError(PkgdataError, ValueError):
    """A name that could leave its folder or that some system cannot store."""

    name: str


class RegistryError(PkgdataError, ValueError):
    """A registry cannot be read; ``file`` and ``line`` say where."""

    file: str | None = None
    line: int | None = None


class UnknownNameError(RegistryError, KeyError):
    """The registry has no entry of that name; ``close`` lists similar ones."""

    name: str
    close: Sequence[str] = ()


class IntegrityError(PkgdataError):
    """Bytes do not match what the registry promises."""

    name: str
    source: str
    expected: str
    actual: str
    attempts: Sequence[tuple[str, Exception]] = ()


class StoreError(PkgdataError, OSError):
    """A store could not do what was asked; a retry may help if it is ``transient``.

    Its ``patience`` is for how many more seconds; None is as long as is configured.
    """

    url: str = ""
    transient: bool = False
    retry_after: float | None = None
    patience: float | None = None


class ObjectNotFoundError(StoreError, FileNotFoundError):
    """The store answers that it does not hold the object."""


class ObjectExistsError(StoreError, FileExistsError):
    """The object is there already, and was to be written only if it is not."""


class AccessDeniedError(StoreError, PermissionError):
    """The store refuses access to the object."""


class UnsupportedOperationError(StoreError):
    """The store cannot do this at all, such as writing over plain HTTP."""


class MissingExtraError(PkgdataError, ImportError):
    """An optional dependency is needed; the hint names the pip command."""


class IncompleteTransferError(PkgdataError, ConnectionError):
    """A transfer ended early or stalled."""

    url: str = ""
    expected: int | None = None
    actual: int | None = None
    transient: bool = True
    retry_after: float | None = None


class AllMirrorsFailedError(PkgdataError):
    """No mirror could serve the object; ``attempts`` holds (redacted URL, error) pairs."""

    name: str
    attempts: Sequence[tuple[str, Exception]] = ()


class OfflineError(PkgdataError):
    """The object is not here and the network may not be used."""

    name: str


class CacheError(PkgdataError):
    """The cache directory cannot be used."""


class CacheLockTimeoutError(CacheError, TimeoutError):
    """Others use the cache and did not finish in time."""

    path: str


class CacheDamaged(PkgdataError, ValueError):
    """Downloads lie in the cache in a way that cannot be; ``bad_files`` are to be cleared.

    Parameters
    ----------
    *args : object
        What is wrong.
    bad_urls : list of str, optional
    bad_files : list of Path, optional
    **facts
        See `PkgdataError`.
    """

    bad_urls: list[str]
    bad_files: list[Path]

    def __init__(
        self,
        *args: object,
        bad_urls: list[str] | None = None,
        bad_files: list[Path] | None = None,
        **facts: Any,
    ) -> None:
        super().__init__(
            "\n".join(map(str, args)), bad_urls=bad_urls or [], bad_files=bad_files or [], **facts
        )


class ExtractionError(PkgdataError):
    """An archive was refused or cannot be read."""


class DatasetError(PkgdataError, ValueError):
    """A directory is no dataset, or a dataset cannot be used like this; ``path`` says which.

    ``taken`` is set if the reason is a dataset that has the name already.
    """

    path: str = ""
    taken: bool = False


class PublishError(PkgdataError):
    """Files cannot be published, or not like this; what is published already stays."""


class AlreadyPublishedError(PublishError):
    """Other bytes are published under these ``names``, and published bytes do not change."""

    names: Sequence[str] = ()


class CatalogError(PkgdataError):
    """A dataset's definition or repository is wrong; ``file`` and ``line`` say where."""

    file: str | None = None
    line: int | None = None


class UnknownDatasetError(CatalogError, KeyError):
    """No definition has this name; ``close`` lists similar ones."""

    name: str
    close: Sequence[str] = ()


class BatchError(PkgdataError):
    """Some objects of a batch failed; ``report`` lists successes and failures."""

    report: Any


class PkgdataWarning(UserWarning):
    """Root of all pkgdata warnings."""


class CacheWarning(PkgdataWarning):
    """The cache cannot be used as it should; the call goes on another way."""


class CacheMissingWarning(CacheWarning):
    """There is no cache; the second argument, if any, is the file that stands in for an entry."""


class FolderWarning(PkgdataWarning):
    """A file in a predefined folder is not the registered one and was skipped."""
