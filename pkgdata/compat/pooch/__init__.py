"""pooch's names and habits on pkgdata's engine: ``import pkgdata.compat.pooch as pooch``.

Files are where pooch keeps them, ``PATH/NAME``, so the two read each other's downloads. New is that
one process downloads while the others wait, that an interrupted download is resumed, that
``base_url`` may be a list of mirrors, that a server's log-in page is refused, and that a file is
hashed once and not at each call. ``docs/howto/pooch.md`` lists what differs on purpose.

Names of pooch that are not ours (``HTTPDownloader``, ``Unzip``, ``get_logger`` ...) are pooch's own
and loaded when they are first used. So are our modules for downloads: this import and a hit need
none of them.
"""

from __future__ import annotations

import os
import sys
from os import stat as _stat

from ...base import config
from . import basics
from .basics import check_version, file_hash, make_registry, os_cache, pooch_module

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, MutableMapping, Sequence
    from pathlib import Path
    from typing import Any

    from .place import LocalFile

#: Where pooch has what is its own.
_THEIRS = {
    **dict.fromkeys(["HTTPDownloader", "FTPDownloader"], "downloaders"),
    **dict.fromkeys(["SFTPDownloader", "DOIDownloader"], "downloaders"),
    **dict.fromkeys(["Unzip", "Untar", "Decompress"], "processors"),
    "get_logger": "utils",
}

#: Modules of pooch that its users look into.
_MODULES = ("downloaders", "hashes", "processors", "utils")

__all__ = [
    *_THEIRS,
    "Pooch",
    "check_version",
    "create",
    "file_hash",
    "make_registry",
    "os_cache",
    "retrieve",
]

#: Settings whose change makes a remembered answer invalid.
_watched = config.environment_reader(["PKGDATA_VERIFY", "PKGDATA_CONFIG"])


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib import metadata

        return f"v{metadata.version('pooch')}"
    if name == "core":
        return sys.modules[__name__]
    if name not in _THEIRS and name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = pooch_module(name) if name in _MODULES else getattr(pooch_module(_THEIRS[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_MODULES, "core", "__version__"})


class Pooch:
    """A local storage of files that are fetched when they are first needed.

    Nothing is touched, neither disk nor network, before a file is asked for. `create` fills in
    versions and variables.

    Parameters
    ----------
    path : path-like
        Folder of the files.
    base_url : str or sequence of str
        What precedes a file's name in its URL; several are mirrors, tried in order.
    registry : mapping of str to str, optional
        Hash by file name: ``alg:hex``, SHA-256 without prefix; None accepts any bytes.
    urls : mapping of str to str, optional
        Own URLs of single files, instead of ``base_url``.
    retry_if_failed : int, default 0
        Further attempts after wrong bytes or a failed connection, after 1, 2, ... at most 10 s.
    allow_updates : bool, default True
        Whether a file that does not match the registry may be fetched again.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        base_url: str | Sequence[str],
        registry: MutableMapping[str, str] | None = None,
        urls: Mapping[str, str] | None = None,
        retry_if_failed: int = 0,
        allow_updates: bool = True,
    ) -> None:
        self.path = path
        self.base_url = base_url
        self.registry: MutableMapping[str, Any] = {} if registry is None else registry
        self.urls = {} if urls is None else dict(urls)
        self.retry_if_failed = retry_if_failed
        self.allow_updates = allow_updates
        #: Name below which configured folders keep these files.
        self._project = os.path.basename(os.path.normpath(str(path)))
        # answers by name: path of the file, its facts, and what else they depend on
        self._known: dict[str, tuple[str, tuple[int, ...], object, str, object]] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_known": {}}

    @property
    def abspath(self) -> Path:
        """Absolute path of the storage, as a `pathlib.Path`."""
        from pathlib import Path

        return Path(self._folder())

    def _folder(self) -> str:
        return os.path.abspath(os.path.expanduser(str(self.path)))

    @property
    def registry_files(self) -> list[str]:
        """Names of the files in the registry."""
        return list(self.registry)

    def fetch(
        self,
        fname: str,
        processor: Callable[..., Any] | None = None,
        downloader: Callable[..., Any] | None = None,
        progressbar: Any = False,
    ) -> Any:
        """Return the path of a file; download it if it is not here or not as the registry has it.

        Parameters
        ----------
        fname : str
            Name in the registry.
        processor : callable, optional
            Called as ``processor(fname, action, pooch)``; its result is returned instead.
        downloader : callable, optional
            Called as ``downloader(url, output_file, pooch)`` instead of pkgdata's own transfer.
        progressbar : bool or progress bar, default False
            True draws with tqdm; an object has ``total``, ``update``, ``reset`` and ``close``.

        Returns
        -------
        str
            Absolute path of the file, or what the processor returns.

        Raises
        ------
        ValueError
            The registry has no such name, the bytes that came are wrong, or an update is needed
            and not allowed.
        requests.exceptions.RequestException
            The download failed; `HTTPError` if a server said so.
        """
        known = self._known.get(fname)
        if known is not None and processor is None:
            full, facts, path, hash_, settings = known
            try:
                found = _stat(full)
            except OSError:
                pass
            else:
                if (
                    facts == (found.st_size, found.st_mtime_ns, found.st_ino, found.st_dev)
                    and path is self.path
                    and hash_ == self.registry.get(fname, "")  # a name that went is not None
                    and settings == (_watched(), config.state())
                ):
                    return full
        return self._fetch(fname, processor, downloader, progressbar)

    def _fetch(self, fname: str, processor: Any, downloader: Any, progressbar: Any) -> Any:
        from . import place

        self._assert_file_in_registry(fname)
        hash_ = self.registry[fname]
        file = place.LocalFile(self._folder(), fname, hash_)
        action = file.look()
        if action == "update" and not self.allow_updates:
            raise ValueError(f"{fname} needs to update {file.path} but updates are disallowed.")
        if action != "fetch":
            self._bring(file, action, downloader, progressbar)
        if processor is not None:
            return place.apply(processor, file, action, self)
        if file.seen and place.settings()[0] != "always" and os.path.isabs(str(self.path)):
            settings = (_watched(), config.state())
            self._known[fname] = (file.path, file.seen, self.path, hash_, settings)
        return file.path

    def _bring(self, file: LocalFile, action: str, downloader: Any, progressbar: Any) -> None:
        from .bring import filler, shown

        where = self.get_url(file.name)
        urls, retries = self._addresses(file.name, where), self.retry_if_failed
        fill = filler(file, urls, downloader, progressbar, retries, self, self._project)

        def announce(verb: str) -> None:
            line = "%s file '%s' from '%s' to '%s'."
            basics.logger().info(line, verb, file.name, shown(where), file.folder)

        file.bring(action, announce, fill)

    def _addresses(self, fname: str, where: str) -> list[tuple[str, str]]:
        """Return base and name of each place of a file; ``where`` is what `get_url` says."""
        bases = [self.base_url] if isinstance(self.base_url, str) else list(self.base_url)
        if where != f"{bases[0]}{fname}":
            return [(where, "")]  # its own URL, or what a derived class made of it
        return [(base, fname) for base in bases]

    def _assert_file_in_registry(self, fname: str) -> None:
        if fname not in self.registry:
            raise ValueError(f"File '{fname}' is not in the registry.")

    def get_url(self, fname: str) -> str:
        """Return the URL of a file; of several mirrors the first one's.

        Parameters
        ----------
        fname : str
            Name in the registry.

        Returns
        -------
        str

        Raises
        ------
        ValueError
            The registry has no such name.
        """
        self._assert_file_in_registry(fname)
        base = self.base_url if isinstance(self.base_url, str) else self.base_url[0]
        return self.urls.get(fname, f"{base}{fname}")

    def load_registry(self, fname: Any) -> None:
        """Add the entries of a registry file: ``name hash [url]`` a line, ``#`` for comments.

        Parameters
        ----------
        fname : path-like or file object
            Opened in text or binary mode.

        Raises
        ------
        OSError
            The file cannot be read, or a line has not two or three words.
        """
        if hasattr(fname, "read"):
            self._load_lines(fname, fname)
        else:
            with open(fname, encoding="utf-8") as lines:
                self._load_lines(lines, fname)

    def _load_lines(self, lines: Any, fname: Any) -> None:
        for number, line in enumerate(lines, 1):
            text = (line.decode("utf-8") if isinstance(line, bytes) else line).strip()
            if text.startswith("#"):
                continue
            found = basics.words(text)
            if len(found) not in (0, 2, 3):
                raise OSError(
                    f"Invalid entry in Pooch registry file '{fname}': expected 2 or 3 elements "
                    f"in line {number} but got {len(found)}. Offending entry: '{text}'"
                )
            if len(found) == 3:
                self.urls[found[0]] = found[2]
            if found:
                self.registry[found[0]] = found[1].lower()

    def load_registry_from_doi(self) -> None:
        """Add all files of the data repository that ``base_url`` names by its DOI.

        Raises
        ------
        ValueError
            The ``base_url`` is no DOI, or of a repository that pooch does not know.
        """
        from .bring import repository

        base = self.base_url if isinstance(self.base_url, str) else self.base_url[0]
        downloader = pooch_module("downloaders").choose_downloader(base)
        if type(downloader).__name__ != "DOIDownloader":
            raise ValueError(
                f"Invalid base_url '{base}': Pooch.load_registry_from_doi is only implemented "
                "for DOIs"
            )
        repository(base.replace("doi:", ""), downloader).populate_registry(self)

    def is_available(self, fname: str, downloader: Callable[..., Any] | None = None) -> bool:
        """Return whether a file can be downloaded, without downloading it.

        Parameters
        ----------
        fname : str
            Name in the registry.
        downloader : callable, optional
            Called with ``check_only=True`` instead of asking the server.

        Returns
        -------
        bool

        Raises
        ------
        NotImplementedError
            The downloader cannot tell.
        requests.exceptions.ConnectionError
            No server answered.
        """
        from .bring import available

        url = self.get_url(fname)
        return available(fname, url, self._addresses(fname, url), downloader, self)


def create(
    path: Any,
    base_url: str | Sequence[str],
    version: str | None = None,
    version_dev: str = "master",
    env: str | None = None,
    registry: MutableMapping[str, str] | None = None,
    urls: Mapping[str, str] | None = None,
    retry_if_failed: int = 0,
    allow_updates: bool | str = True,
) -> Pooch:
    """Return a `Pooch` whose folder and URLs depend on the version of your package.

    Parameters
    ----------
    path : path-like or sequence of str
        Folder of the files; the parts of a sequence are joined, and the version is appended.
    base_url : str or sequence of str
        See `Pooch`; ``{version}`` stands for the version.
    version : str, optional
        Of your package; one with a local part (``1.2+3.g1234567``) is a development version.
    version_dev : str, default ``"master"``
        Stands for every development version.
    env : str, optional
        Environment variable that replaces ``path``.
    registry : mapping of str to str, optional
        See `Pooch`.
    urls : mapping of str to str, optional
        See `Pooch`.
    retry_if_failed : int, default 0
        See `Pooch`.
    allow_updates : bool or str, default True
        A text names an environment variable in which ``false`` forbids updates.

    Returns
    -------
    Pooch
    """
    bases = [base_url] if isinstance(base_url, str) else list(base_url)
    if version is not None:
        version = check_version(version, fallback=version_dev)
        bases = [base.format(version=version) for base in bases]
    bases = [base.rstrip("/") + "/" for base in bases]
    if isinstance(allow_updates, str):
        allow_updates = os.environ.get(allow_updates, "true").lower() != "false"
    where = basics.location(path, env, version)
    base = bases[0] if isinstance(base_url, str) else bases
    pup = Pooch(where, base, registry, urls, retry_if_failed, allow_updates)
    pup._project = os.path.basename(os.path.normpath(basics.joined(path)))
    return pup


def retrieve(
    url: str | Sequence[str],
    known_hash: str | None = None,
    fname: str | None = None,
    path: str | os.PathLike[str] | None = None,
    processor: Callable[..., Any] | None = None,
    downloader: Callable[..., Any] | None = None,
    progressbar: Any = False,
) -> Any:
    """Return the path of a single file; download it if it is not here or has another hash.

    Parameters
    ----------
    url : str or sequence of str
        Several hold the same bytes and are tried in order.
    known_hash : str, optional
        See `Pooch`; without one the SHA-256 of what came is logged.
    fname : str, optional
        Its name; by default made of the URL's MD5 and last part.
    path : path-like, optional
        Its folder; ``os_cache("pooch")`` by default.
    processor : callable, optional
        See `Pooch.fetch`.
    downloader : callable, optional
        See `Pooch.fetch`.
    progressbar : bool or progress bar, default False
        See `Pooch.fetch`.

    Returns
    -------
    str
        Absolute path of the file, or what the processor returns.

    Raises
    ------
    ValueError
        The bytes that came are wrong.
    requests.exceptions.RequestException
        The download failed; `HTTPError` if a server said so.
    """
    from . import place

    urls = [url] if isinstance(url, str) else list(url)
    folder = basics.location(os_cache("pooch") if path is None else path)
    full = folder.resolve() / (basics.unique_name(urls[0]) if fname is None else fname)
    # the caller chose the whole path, so that its last part alone is a name
    file = place.LocalFile(str(full.parent), full.name, known_hash)
    action = file.look()
    if action != "fetch":
        _retrieve(file, action, urls, downloader, progressbar)
    if processor is None:
        return file.path
    return place.apply(processor, file, action, None)


def _retrieve(
    file: LocalFile, action: str, urls: list[str], downloader: Any, progressbar: Any
) -> None:
    from .bring import filler, shown

    fill = filler(file, [(one, "") for one in urls], downloader, progressbar, 0, None, "")
    brought = []

    def announce(verb: str) -> None:
        brought.append(verb)
        basics.logger().info("%s data from '%s' to file '%s'.", verb, shown(urls[0]), file.path)

    file.bring(action, announce, fill)
    if file.known is None and brought:
        basics.logger().info(
            "SHA256 hash of downloaded file: %s\n"
            "Use this value as the 'known_hash' argument of 'pooch.retrieve' to ensure that the "
            "file hasn't changed if it is downloaded again in the future.",
            fill.found.hex if fill.found is not None else file_hash(file.path),
        )
