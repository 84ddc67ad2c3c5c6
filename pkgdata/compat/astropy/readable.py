"""`get_readable_fileobj` and `get_file_contents`: a path, URL or file, decompressed, as text.

The compression is recognised by the first bytes, not by the name. A broken archive is passed on as
it is.
"""

from __future__ import annotations

import contextlib
import gzip
import importlib
import io
import os
import struct
import tempfile
import zlib
from pathlib import Path

from ...base import fs
from ...cache.unpinned import is_url
from ...stores import codecs
from .download import _tempfilestodel, download_file
from .errors import MissingModuleError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import IO, Any, Literal


@contextlib.contextmanager
def get_readable_fileobj(
    name_or_obj: Any,
    encoding: str | None = None,
    cache: bool | Literal["update"] = False,
    show_progress: bool = True,
    remote_timeout: float | None = None,
    sources: Sequence[str] | None = None,
    http_headers: Mapping[str, str] | None = None,
    *,
    use_fsspec: bool | None = None,
    fsspec_kwargs: Mapping[str, Any] | None = None,
    fsspec_filesystem: Any = None,
    close_files: bool = True,
) -> Iterator[IO[Any]]:
    """Open a readable, seekable file, decompressed if necessary; a context manager.

    gzip, bzip2, xz, zstd and LZW (``.Z``) are recognised by the first bytes. zstd needs Python 3.14
    or the package ``zstandard``, LZW the package ``uncompresspy``. A compressed file may be read up
    to the limit of the setting ``extract_limit``.

    Parameters
    ----------
    name_or_obj : path-like or binary file
        A path, a URL or an open file, which stays open.
    encoding : str, optional
        ``"binary"`` for bytes, else the text encoding; the system's by default.
    cache : bool or ``"update"``, default False
        For a URL, see `pkgdata.download_file`. What is not cached is removed at the end.
    show_progress : bool, default True
        Draw a bar in a terminal or a notebook.
    remote_timeout : float, optional
        Seconds; ``conf.remote_timeout`` by default.
    sources : sequence of str, optional
        URLs to fetch the contents from instead.
    http_headers : mapping of str to str, optional
        Sent with HTTP requests.
    use_fsspec : bool, optional
        Open with fsspec; by default what begins with ``s3://`` or ``gs://``.
    fsspec_kwargs : mapping, optional
        Arguments of `fsspec.open`.
    fsspec_filesystem : optional
        A file system of fsspec to open it with.
    close_files : bool, default True
        Close the file at the end.

    Yields
    ------
    file object

    Raises
    ------
    urllib.error.URLError
        The URL could not be fetched.
    ModuleNotFoundError
        The format needs a package that is not installed.
    ExtractionError
        More was read than the setting ``extract_limit`` allows.
    TypeError
        fsspec is to open something that is not a name.
    """
    options: dict[str, Any] = {"cache": cache, "show_progress": show_progress}
    options |= {"timeout": remote_timeout, "sources": sources, "http_headers": http_headers}
    by_fsspec = (use_fsspec, fsspec_kwargs, fsspec_filesystem)
    with contextlib.ExitStack() as last, contextlib.ExitStack() as opened:
        file = _opened(name_or_obj, opened, last, options, by_fsspec)
        file = _decompressed(_seekable(file), opened)
        if encoding != "binary":
            file = io.TextIOWrapper(io.BufferedReader(_Borrowed(file)), encoding=encoding)
            file.seek(0)
        try:
            yield file
        finally:
            if not close_files:
                opened.pop_all()


def get_file_contents(*args: Any, **kwargs: Any) -> Any:
    """Return the contents of a path, URL or file, decompressed if necessary.

    Parameters
    ----------
    *args, **kwargs
        As for `get_readable_fileobj`.

    Returns
    -------
    str or bytes
    """
    with get_readable_fileobj(*args, **kwargs) as file:
        return file.read()


# -- opening -------------------------------------------------------------------------------------


def _opened(
    name: Any,
    opened: contextlib.ExitStack,
    last: contextlib.ExitStack,
    options: Mapping[str, Any],
    by_fsspec: tuple[Any, Any, Any],
) -> Any:
    """Return an open binary file; what is to be closed or removed at the end goes onto stacks."""
    wanted, arguments, filesystem = by_fsspec
    if isinstance(name, os.PathLike):
        name = os.fspath(name)
    if wanted or (wanted is None and _requires_fsspec(name)):
        return _by_fsspec(name, opened, dict(arguments or {}), filesystem)
    if not isinstance(name, str):
        return name
    if is_url(name):
        name = download_file(name, **options)
        if not options["cache"]:
            last.callback(_forget, name)
    return opened.enter_context(open(name, "rb"))


def _requires_fsspec(url: object) -> bool:
    """Return True if fsspec opens a URL by default; astropy.io.fits calls this too."""
    return isinstance(url, str) and url.startswith(("s3://", "gs://"))


def _by_fsspec(
    name: Any, opened: contextlib.ExitStack, arguments: dict[str, Any], filesystem: Any
) -> Any:
    if not isinstance(name, str):
        raise TypeError("`name_or_obj` must be a string when `use_fsspec=True`")
    if filesystem is not None:
        return opened.enter_context(filesystem.open(name, **arguments))
    return opened.enter_context(_module("fsspec", "fsspec", name).open(name, **arguments))


def _forget(path: str) -> None:
    """Remove a temporary download now instead of at the end of the program."""
    fs.remove(path)
    if Path(path) in _tempfilestodel:
        _tempfilestodel.remove(Path(path))


def _seekable(file: Any) -> Any:
    """Return the file if it can seek, otherwise its contents in memory."""
    if hasattr(file, "seek"):
        return file
    read = getattr(file, "read_binary", file.read)  # of py.path, whose read() gives text
    return io.BytesIO(read())


class _Borrowed(io.RawIOBase):
    """Any binary file as the bottom of a text file; closing the text leaves it open."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def _bytes(self, *size: int) -> bytes:
        data = self._file.read(*size)
        if isinstance(data, str):
            raise TypeError("a file that was opened as text cannot be decoded; open it as 'rb'")
        return bytes(data)

    def readinto(self, buffer: Any) -> int:
        data = self._bytes(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def readall(self) -> bytes:
        return self._bytes()

    def seek(self, offset: int, whence: int = 0) -> int:
        return int(self._file.seek(offset, whence))

    def tell(self) -> int:
        return int(self._file.tell())

    @property
    def closed(self) -> bool:
        return super().closed or bool(getattr(self._file, "closed", False))


# -- decompressing -------------------------------------------------------------------------------


def _decompressed(file: Any, opened: contextlib.ExitStack) -> Any:
    """Return a file of the decompressed bytes, or the file itself, from its start."""
    start = file.read(6)
    file.seek(0)
    for magic, opener in _FORMATS.items():
        if isinstance(start, bytes) and start.startswith(magic):
            return _if_sound(opener, file, opened)
    return file


def _if_sound(opener: Callable[[Any], Any], file: Any, opened: contextlib.ExitStack) -> Any:
    inner, budget = None, _budget(file)
    try:
        inner = opener(file)
        inner.read(1)
    except Exception as error:
        if inner is not None:
            inner.close()
        if not _is_broken(error):
            raise
        file.seek(0)
        return file
    inner.seek(0)
    limited = io.BufferedReader(_Limited(inner, budget))
    opened.callback(limited.close)
    return limited


class _Limited(_Borrowed):
    """A decompressed file that may be read up to a limit, however often."""

    def __init__(self, file: Any, budget: codecs.Budget) -> None:
        super().__init__(file)
        self._budget = budget

    def _bytes(self, *size: int) -> bytes:
        self._budget.used = self.tell()
        data = super()._bytes(*size)
        self._budget.add(len(data))
        return data

    def readall(self) -> bytes:
        return b"".join(iter(lambda: self._bytes(1 << 20), b""))

    def close(self) -> None:
        super().close()
        self._file.close()


def _budget(file: Any) -> codecs.Budget:
    """Return how much a compressed file may become: as much as an archive."""
    size = file.seek(0, os.SEEK_END) or file.tell()
    file.seek(0)
    name = str(getattr(file, "name", "") or "the compressed file")
    return codecs.Budget.of(name, size=size)


def _is_broken(error: Exception) -> bool:
    """Return True if an error means that a file is not an archive, or is cut short."""
    known = (OSError, EOFError, ValueError, zlib.error, struct.error)
    # those two derive from Exception alone, and their modules may not be there
    return isinstance(error, known) or type(error).__name__ in ("LZMAError", "ZstdError")


def _module(name: str, package: str, what: object) -> Any:
    """Import a module of Python or of an optional package."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise MissingModuleError(
            f"the module {error.name or name} is needed to read {what}",
            hint=f"pip install {package}",
        ) from error


def _by(module: str, kind: str, package: str, what: str) -> Callable[[Any], Any]:
    """Return what opens a file by a class of a module that may not be there."""
    return lambda file: getattr(_module(module, package, what), kind)(file)


def _zstd(file: Any) -> Any:
    for name in ("compression.zstd", "backports.zstd"):
        try:
            return importlib.import_module(name).ZstdFile(file)
        except ModuleNotFoundError:
            pass  # Python 3.14 has the first; the second brings it to older ones
    reader = _module("zstandard", "zstandard", "zstd files").ZstdDecompressor()
    budget = _budget(file)
    whole = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it; it has no name
    try:
        # its reader cannot seek back, which our result must be able to
        with reader.stream_reader(file, closefd=False, read_across_frames=True) as stream:
            for block in budget.blocks(stream):
                whole.write(block)
        whole.seek(0)
    except BaseException:
        whole.close()
        raise
    return whole


_FORMATS: dict[bytes, Callable[[Any], Any]] = {
    b"\x1f\x8b\x08": lambda file: gzip.GzipFile(fileobj=file, mode="rb"),
    b"BZh": _by("bz2", "BZ2File", "a Python that has it", "bzip2 files"),
    b"\xfd7zXZ\x00": _by("lzma", "LZMAFile", "a Python that has it", "xz files"),
    b"\x28\xb5\x2f\xfd": _zstd,
    b"\x1f\x9d": _by("uncompresspy", "LZWFile", "uncompresspy", "LZW files (.Z)"),
}
