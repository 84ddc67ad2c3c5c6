"""What a `CloudFiles` is made with, and what it makes of paths."""

from __future__ import annotations

import os
import posixpath

from ...errors import ConfigError
from . import paths as paths_
from .many import Bar, processes
from .place import Place

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Base:
    """The objects below a cloudpath.

    Nothing is contacted before the first operation.

    Parameters
    ----------
    cloudpath : str
        ``gs://bucket/dir``, ``s3://bucket/dir``, ``s3://https://endpoint/bucket/dir``,
        ``file://dir`` or a plain path, ``https://host/dir``, ``mem://bucket/dir``, or one that
        begins with an alias; ``az://container/dir`` is new.
    progress : bool or str
        Draw bars; a text is shown beside them.
    green : bool, optional
        Taken and not used: the threads here are few, and most of the work is done outside Python.
    secrets : dict or str, optional
        As for cloud-files; by default the files it keeps them in, then the provider's own chain.
    num_threads : int
        Requests at once. What lies in memory or on a local disk is read by one thread.
    use_https : bool
        Read a public bucket by its web address.
    endpoint : str, optional
        Of S3 or something that speaks its protocol.
    parallel : int
        Worker processes; 0 for one per processor.
    request_payer : str, optional
        ``"requester"`` (S3) or a project (Google).
    locking, lock_dir
        Taken and not used: a file is replaced by a rename, so that no reader sees a part of it.
    composite_upload_threshold : int
        Taken and not used: objects above 8 MiB are sent in parts, in bounded memory.
    no_sign_request : bool
        Read a public bucket of S3 without a signature.

    Raises
    ------
    UnsupportedProtocolError
        The cloudpath is of no kind that is known.
    """

    def __init__(
        self,
        cloudpath: str,
        *,
        progress: Any = False,
        green: bool | None = None,
        secrets: Any = None,
        num_threads: int = 20,
        use_https: bool = False,
        endpoint: str | None = None,
        parallel: Any = 1,
        request_payer: str | None = None,
        locking: bool | None = None,
        lock_dir: str | None = None,
        composite_upload_threshold: int = 100_000_000,
        no_sign_request: bool = False,
    ) -> None:
        if use_https:
            cloudpath = paths_.to_https_protocol(cloudpath)
        self.cloudpath = paths_.normalize(paths_.refuse_unknown(os.fspath(cloudpath)))
        self.progress = progress
        self.green = green
        self.secrets = secrets
        self.num_threads = num_threads
        self.parallel = int(parallel)
        self.request_payer = request_payer
        self.locking = locking
        self.lock_dir = lock_dir
        self.composite_upload_threshold = composite_upload_threshold
        self.no_sign_request = bool(no_sign_request)
        self._path = paths_.extract(self.cloudpath)
        if endpoint:
            self._path = self._path._replace(host=endpoint)
        if self._path.protocol == "mem":
            self.num_threads = 0
        self._check_payer()
        self.place = self._place()

    def _check_payer(self) -> None:
        payer, protocol = self.request_payer, self.protocol
        if payer is None or protocol == "gs" or (protocol == "s3" and payer == "requester"):
            return
        expected = "'requester' or None" if protocol == "s3" else "None"
        raise ConfigError(f"request_payer: expected {expected} for {protocol}, found {payer!r}")

    def _place(self) -> Place:
        return Place(
            self._path, self.secrets, self.request_payer, self.no_sign_request, self.threads
        )

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "place"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.place = self._place()

    def __repr__(self) -> str:
        from ...base.urls import redact

        return f"<{type(self).__name__} {redact(self.cloudpath)}>"

    @property
    def protocol(self) -> str:
        """``"file"``, ``"gs"``, ``"s3"``, ``"az"``, ``"http"``, ``"https"`` or ``"mem"``."""
        return self._path.protocol

    @property
    def threads(self) -> int:
        """Requests at once, at least 1."""
        return max(1, self.num_threads)

    @property
    def _readers(self) -> int:
        return 1 if self.protocol in ("file", "mem") else self.threads

    @property
    def _writers(self) -> int:
        """Threads that write, within the store's bulk context."""
        if self.protocol not in ("file", "mem") or self.place.syncs():
            return self.threads
        # 4 KB files per second on a local disk: 4,600 by one thread, 2,700 by two, 900 by twenty,
        # which wait for the interpreter; two still hide some of the latency of a network's disk
        return min(2, self.threads)

    def clear_locks(self) -> None:
        """Do nothing: there are no lock files."""

    def _bar(self, title: str, progress: Any, items: Any, total: int | None = None) -> Bar:
        progress = self.progress if progress is None else progress
        if progress is True and isinstance(self.progress, str):
            progress = self.progress
        return Bar(progress, title, items, total)

    def _processes(self, parallel: Any) -> int:
        count = processes(self.parallel if parallel is None else parallel)
        return 1 if self.protocol == "mem" else count  # other processes have other memory

    # -- names ---------------------------------------------------------------------------------

    @property
    def _module(self) -> Any:
        return os.path if self.protocol == "file" else posixpath

    @property
    def sep(self) -> str:
        """What stands between the parts of a path."""
        return os.sep if self.protocol == "file" else posixpath.sep

    def abspath(self, path: str) -> str:
        """Return the cloudpath of an object.

        Parameters
        ----------
        path : str

        Returns
        -------
        str
        """
        return self.sep.join((paths_.asprotocolpath(self._path), path))

    def join(self, *paths: str) -> str:
        """Join parts of a path.

        Parameters
        ----------
        *paths : str

        Returns
        -------
        str
        """
        if not paths:
            return ""
        return str(self._module.join(*paths))

    def dirname(self, path: str) -> str:
        """Return what is before the last slash.

        Parameters
        ----------
        path : str

        Returns
        -------
        str
        """
        return str(self._module.dirname(path))

    def basename(self, path: str) -> str:
        """Return what is behind the last slash.

        Parameters
        ----------
        path : str

        Returns
        -------
        str
        """
        return str(self._module.basename(path))
