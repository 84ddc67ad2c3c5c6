"""``rm`` as a library function."""

from __future__ import annotations

import os

from ..base import fs
from ..base.report import Tally
from ..errors import ConfigError, ObjectNotFoundError, PkgdataError
from . import addresses, planning
from .addresses import Address, Stores, names_in

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from ..stores import Info

#: Objects that are removed with one call.
_AT_ONCE = 1000


class Removal:
    """Removes files and objects, many objects with one request.

    `report` is called with the address of each that is removed, or with "" and an error. With
    `recursive` folders are removed too, and with `whole` all of a bucket; with `force` a missing
    object is no error; with `listed` addresses are of single objects, and some may be missing.
    """

    def __init__(
        self,
        stores: Stores,
        report: Callable[[str, Exception | None], None],
        *,
        recursive: bool = False,
        force: bool = False,
        whole: bool = False,
        dry_run: bool = False,
        listed: bool = False,
    ) -> None:
        self.tally = Tally()
        self._stores, self._report = stores, report
        self._recursive, self._force, self._whole = recursive, force, whole
        self._dry_run, self._listed = dry_run, listed
        self._waiting: dict[str, list[str]] = {}

    def run(self, found: Iterable[Address]) -> Tally:
        """Remove all that addresses mean."""
        for address in found:
            try:
                self._remove(address)
            except (PkgdataError, OSError) as error:
                self._fail(error)
        self._flush()
        return self.tally

    def _remove(self, address: Address) -> None:
        if address.local and (not address.folder or os.path.islink(address.path)):
            self._file(address)
        elif address.local:
            if not self._listed:  # a list of files names their folders, too
                self._tree(address)
        elif address.pattern:
            store = self._stores.open(address.base)
            self._many(address, names_in(store, address, self._recursive))
        elif address.folder or (
            self._recursive and addresses.is_folder(self._stores.open(address.base), address)
        ):
            self._folder(address)
        else:
            self._object(address)

    def _file(self, address: Address) -> None:
        if not os.path.lexists(address.path):
            if not (self._force or self._listed):
                raise ObjectNotFoundError(f"{address}: no such file", url=address.path)
            return
        self._count(str(address))
        if not self._dry_run:
            fs.remove(address.path)

    def _tree(self, address: Address) -> None:
        """Remove a local folder; links are removed, not what they lead to."""
        if not self._recursive:
            raise planning.is_a_folder(address)
        named_by_dots = os.path.basename(address.shown) in (".", "..")
        if named_by_dots or os.path.dirname(address.base) == address.base:
            raise ConfigError(f"{address}: refused to remove this folder")
        if not os.path.isdir(address.base):
            if self._force:
                return
            raise ObjectNotFoundError(f"{address}: no such folder", url=address.path)
        for path in _files_below(address.base):
            self._count(address.show(os.path.relpath(path, address.base)))
        if not self._dry_run:
            fs.remove_tree(address.base)

    def _folder(self, address: Address) -> None:
        if not self._recursive:
            raise planning.is_a_folder(address)
        if not (address.name or self._whole or self._dry_run):
            raise ConfigError(
                f"{address} is a whole bucket; nothing of it was removed",
                hint="--yes, if all of it is to be removed",
            )
        self._many(address, names_in(self._stores.open(address.base), address))

    def _many(self, address: Address, found: Iterable[tuple[str, Info]]) -> None:
        count = 0
        for name, _ in found:
            count += 1
            self._later(address, name)
        if not count and not self._force:
            raise addresses.nothing_at(address)

    def _object(self, address: Address) -> None:
        quiet = self._force or self._listed
        # where it may be missing, asking would only cost a request: removing it is no error
        asked = self._dry_run or not quiet
        if asked and not self._stores.open(address.base).exists(address.name):
            if quiet:
                return
            raise ObjectNotFoundError(f"{address}: no such object", url=str(address))
        self._later(address, address.name)

    def _later(self, address: Address, name: str) -> None:
        self._count(address.show(name))
        waiting = self._waiting.setdefault(address.base, [])
        waiting.append(name)
        if len(waiting) >= _AT_ONCE:
            self._flush()

    def _count(self, name: str) -> None:
        self.tally.removed += 1
        self._report(name, None)

    def _flush(self) -> None:
        for base, names in self._waiting.items():
            if names and not self._dry_run:
                try:
                    self._stores.open(base).remove_many(names)
                except PkgdataError as error:
                    self.tally.removed -= len(names)
                    self._fail(error)
        self._waiting.clear()

    def _fail(self, error: Exception) -> None:
        self.tally.refuse(error)
        self._report("", error)


def _files_below(root: str) -> Iterator[str]:
    """Yield the path of each file and link below a folder; links are not followed."""
    for folder, folders, files in os.walk(root):
        folders.sort()
        links = [name for name in folders if os.path.islink(os.path.join(folder, name))]
        for name in sorted(files + links):
            yield os.path.join(folder, name)
