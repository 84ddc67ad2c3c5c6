"""``pkgdata://PACKAGE/NAME``: a package's data for all that reads by fsspec.

fsspec finds `PackageFileSystem` by its entry point, so that pandas, xarray, dask, zarr, polars and
intake take such URLs. Files are found, fetched, verified and cached as by `PackageData.get`.
"""

from __future__ import annotations

import errno
import os
from typing import Any

from fsspec.implementations.local import LocalFileOpener, LocalFileSystem
from fsspec.spec import AbstractFileSystem

from ..core.declaration import announced, declaration_of, find_package, package_folder
from ..core.package import PackageData
from ..errors import ConfigError, UnknownNameError

__all__ = ["PackageFileSystem"]


class PackageFileSystem(AbstractFileSystem):  # type: ignore[misc]  # fsspec has no types
    """The data of all importable packages, to be read.

    Listings come from the registries, so that they cost nothing; opening a file fetches it if it is
    not here. A path is ``PACKAGE/NAME``.

    Examples
    --------
    >>> files = PackageFileSystem()  # or fsspec.open("pkgdata://pkgdata/stars.csv", "rt")
    >>> with files.open("pkgdata://pkgdata/stars.csv", "rt") as file:
    ...     file.readline()
    'name,ra_deg,dec_deg,vmag\\n'
    """

    protocol = "pkgdata"
    #: `fsspec.open_local` gives the path of a file.
    local_file = True

    def _find(self, path: str) -> tuple[PackageData, str]:
        package, _, name = self._strip_protocol(path).partition("/")
        if not package.strip("."):
            raise _missing(path, "no package is named")
        try:
            data = declaration_of(package) or find_package(package)
        except ConfigError as error:
            if package_folder(package) is not None:
                raise  # its pkgdata.toml is wrong, or it has none
            raise _missing(path, str(error)) from error
        return data, name

    def _path(self, path: str) -> str:
        data, name = self._find(path)
        if not name:
            raise _missing(path, "it is a package, not a file")
        try:
            return data.get(name)
        except UnknownNameError as error:
            raise _missing(path, str(error)) from error

    def _open(self, path: str, mode: str = "rb", *_: Any, **__: Any) -> Any:
        if mode != "rb":
            raise OSError(errno.EROFS, "the data of packages are read-only", path)
        return LocalFileOpener(self._path(path), mode, fs=LocalFileSystem())

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        path = self._strip_protocol(path)
        if not path:
            return _folder("")
        data, name = self._find(path)
        entry = data.registry.get(name)
        if entry is not None and entry.size is not None:
            return _file(path, entry)
        start = f"{name.rstrip('/')}/" if name else ""
        if entry is None and any(key.startswith(start) for key in data.registry):
            return _folder(path)
        return {**_file(path, entry), "size": os.path.getsize(self._path(path))}

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        path = self._strip_protocol(path)
        if path:
            found = self._below(path)
        else:
            found = {name: _folder(name) for name, _ in announced()}
        return [found[key] for key in sorted(found)] if detail else sorted(found)

    def _below(self, path: str) -> dict[str, dict[str, Any]]:
        data, name = self._find(path)
        if name in data.registry:
            return {path: _file(path, data.registry[name])}
        start, found = f"{name}/" if name else "", {}
        for key in data.registry:
            if key.startswith(start):
                head, slash, _ = key[len(start) :].partition("/")
                full = f"{path}/{head}"
                found[full] = _folder(full) if slash else _file(full, data.registry[key])
        if not found:
            raise _missing(path, "nothing is below it")
        return found

    def ukey(self, path: str) -> str:
        """Return what changes with the bytes of a file: its digest, if the registry has one.

        Parameters
        ----------
        path : str

        Returns
        -------
        str
        """
        return str(self.info(path).get("digest") or super().ukey(path))


def _folder(path: str) -> dict[str, Any]:
    return {"name": path, "size": 0, "type": "directory"}


def _file(path: str, entry: Any) -> dict[str, Any]:
    digest = None if entry is None or entry.digest is None else str(entry.digest)
    size = None if entry is None else entry.size
    return {"name": path, "size": size, "type": "file", "digest": digest}


def _missing(path: str, why: str) -> FileNotFoundError:
    return FileNotFoundError(errno.ENOENT, why, path)
