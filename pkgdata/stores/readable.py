"""The half of a `Store` that changes nothing: reading, asking and listing."""

from __future__ import annotations

from ..errors import ConfigError
from . import reading
from .base import Driver
from .naming import expand_brackets
from .objects import BLOCK
from .reading import Get

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import Any, TypeVar

    from ..base.progress import Callback

    R = TypeVar("R")


class ReadableStore(Driver):
    """A place whose objects are read, asked for and listed, one or many at a time."""

    def _each(self, function: Callable[[str], R], names: Iterable[str]) -> Iterator[tuple[str, R]]:
        """Call a function for each name at once; the first error ends it."""
        for name, value, error in self.at_once(function, names):
            if error is not None:
                raise error
            yield name, value  # type: ignore[misc]  # without an error there is a value

    def get(
        self,
        names: Any,
        *,
        start: int | None = None,
        stop: int | None = None,
        ranges: Sequence[tuple[int, int | None]] | None = None,
        raw: bool = False,
        ordered: bool = False,
        errors: str = "raise",
        parallel: int = 1,
        progress: bool | Callback | None = None,
    ) -> Any:
        """Read one object, ranges of one, or many.

        Parameters
        ----------
        names : str, or iterable of str or (str, int or None, int or None)
            One name, or many; a tuple asks for a range of bytes as a slice does.
        start, stop : int, optional
            Range of the one object, as a slice: negative counts from the end, and what lies past
            the end is empty.
        ranges : sequence of (int, int or None), optional
            Several ranges of the one object.
        raw : bool, default False
            Stored bytes as they are, else what they decode to. A range of an object that is stored
            compressed is possible only raw.
        ordered : bool, default False
            Of many: in the order asked for, else as they come.
        errors : ``"raise"`` or ``"return"``, default ``"raise"``
            Of many: what to do with an object that cannot be read.
        parallel : int, default 1
            Worker processes, for many.
        progress : bool or callable, optional
            True draws with tqdm; a callable gets each `Event`.

        Returns
        -------
        bytes, list of bytes, or iterator of Result
            For one name; for several ranges of it; for many names.

        Raises
        ------
        ObjectNotFoundError, AccessDeniedError, StoreError
            The object cannot be read.
        IntegrityError
            Its bytes are not what the service's own checksum says, also when read again.
        """
        get = Get(self, raw)
        if isinstance(names, str):
            if ranges is not None:
                asked = [(names, first, last) for first, last in ranges]
                found = get.many(asked, True, "raise", 1, progress)
                return [result.content for result in found]
            return get.one((names, start, stop)).content
        if start is not None or stop is not None or ranges is not None:
            raise ConfigError("a range belongs to one name; for many give (name, start, stop)")
        return get.many(names, ordered, errors, parallel, progress)

    def get_json(self, names: Any, **options: Any) -> Any:
        """Read JSON.

        Parameters
        ----------
        names : str or iterable of str
        **options
            See `get`.

        Returns
        -------
        object or list
            For many names a list in their order.

        Raises
        ------
        StoreError
            An object holds no JSON.
        """
        if isinstance(names, str):
            return reading.as_json(self, names, self.get(names, **options))
        found = self.get(names, **options, ordered=True)
        return [reading.as_json(self, result.name, result.content) for result in found]

    def _json(self, name: str, content: bytes) -> Any:
        import json

        from ..errors import StoreError

        try:
            return json.loads(content)
        except ValueError as error:
            address = self.address(name)
            raise StoreError(f"{address}: not JSON: {error}", url=address) from error

    def blocks(self, name: str, size: int = BLOCK) -> Iterator[memoryview]:
        """Yield an object's stored bytes; a broken transfer is resumed where it broke.

        Parameters
        ----------
        name : str
        size : int
            Bytes of a block, which is valid until the next one is asked for.

        Yields
        ------
        memoryview

        Raises
        ------
        IncompleteTransferError
            It broke too often, or the object changed meanwhile.
        """
        return reading.read_blocks(self, name, size)

    def cat(self, names: str | Iterable[str]) -> Iterator[memoryview]:
        """Yield the decoded bytes of objects, one after another, in bounded memory.

        Parameters
        ----------
        names : str or iterable of str

        Yields
        ------
        bytes-like
        """
        for name in [names] if isinstance(names, str) else names:
            yield from reading.decoded(self, name)

    # -- asking --------------------------------------------------------------------------------

    def stat(self, names: Any) -> Any:
        """Return what a store knows of objects: size, digest, content type and so on.

        Parameters
        ----------
        names : str or iterable of str

        Returns
        -------
        Info, or dict of str to Info or None
            Of many, None for one that is not there.

        Raises
        ------
        ObjectNotFoundError
            The one object is not there.
        """
        if isinstance(names, str):
            return self.trying(lambda: self.info(names))
        return dict(self._each(self.info_or_none, names))

    head = stat

    def exists(self, names: Any) -> Any:
        """Return whether objects are there.

        Parameters
        ----------
        names : str or iterable of str

        Returns
        -------
        bool, or dict of str to bool
        """
        if isinstance(names, str):
            return self.info_or_none(names) is not None
        return {name: info is not None for name, info in self.stat(names).items()}

    def size(self, names: Any) -> Any:
        """Return the bytes of objects as they are stored.

        Parameters
        ----------
        names : str or iterable of str

        Returns
        -------
        int or None, or dict of str to int or None
            None where there is no object.
        """
        if isinstance(names, str):
            info = self.info_or_none(names)
            return None if info is None else info.size
        return {
            name: None if info is None else info.size for name, info in self.stat(names).items()
        }

    def list(self, prefix: str = "", *, flat: bool = False, expand: bool = False) -> Iterator[str]:
        """Yield names, sorted, as the store lists them.

        Parameters
        ----------
        prefix : str, default ""
            Any beginning of names.
        flat : bool, default False
            One level only; the levels below show as names that end in ``/``.
        expand : bool, default False
            Read ``[ab]{2}`` in the prefix as each of ``aa``, ``ab``, ``ba``, ``bb``.

        Yields
        ------
        str
        """
        if expand:
            for one in expand_brackets(prefix):
                yield from self.list(one, flat=flat)
            return
        for name, _ in self.scan(prefix, flat):
            yield name

    def du(self, prefix: str = "") -> tuple[int, int]:
        """Count what is below a prefix.

        Parameters
        ----------
        prefix : str, default ""

        Returns
        -------
        (int, int)
            Objects, and their bytes as stored.
        """
        count = total = 0
        for _, info in self.scan(prefix):
            count += 1
            total += info.size or 0
        return count, total
