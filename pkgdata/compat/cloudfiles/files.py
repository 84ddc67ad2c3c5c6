"""`CloudFiles`: the objects below a cloudpath, one or many at a time, in cloud-files' words."""

from __future__ import annotations

from . import paths as paths_
from .many import each
from .monitor import TransmissionMonitor
from .read import Reading
from .transfer import Copy, move, pairs, transfer
from .write import Writing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any


class CloudFiles(Reading, Writing):
    """The objects below a cloudpath; see `Base` for what it is made with.

    Nothing is contacted before the first operation.
    """

    def _other(self, other: Any) -> CloudFiles:
        if isinstance(other, CloudFiles):
            return other
        return CloudFiles(other, green=self.green, num_threads=self.num_threads or 20)

    def transfer_to(
        self,
        cf_dest: Any,
        paths: Any = None,
        block_size: int = 64,
        reencode: Any = None,
        content_type: str | None = None,
        allow_missing: bool = False,
        progress: Any = None,
        resumable: bool = False,
    ) -> TransmissionMonitor:
        """Copy objects to another place, stored bytes as they are, in bounded memory.

        Parameters
        ----------
        cf_dest : CloudFiles or str
        paths : iterable of str, (str, str) or dict, optional
            Names, or with the copy's: pairs, or ``"path"`` and ``"dest_path"``. All by default.
        block_size : int
            Taken and not used: nothing waits for a block to be full.
        reencode : str, optional
            How the copies are compressed; ``""`` for not at all.
        content_type : str, optional
        allow_missing : bool
            Pass over what is not there.
        progress : bool or str, optional
        resumable : bool
            Taken and not used: a transfer that breaks off goes on where it broke, within the call;
            `ResumableTransfer` goes on in a later one.

        Returns
        -------
        TransmissionMonitor

        Raises
        ------
        ObjectNotFoundError
            An object is not there, unless ``allow_missing``.
        """
        dest = self._other(cf_dest)
        paths = self.list() if paths is None else paths
        copy = Copy(self, dest, reencode, content_type, allow_missing)
        with dest._bar("Transferring", progress, paths) as bar, dest.place.store.bulk():
            local = {self.protocol, dest.protocol} <= {"file", "mem"}
            threads = dest._writers if local else max(self.threads, dest.threads)
            return transfer(copy, paths, threads, bar)

    def transfer_from(self, cf_src: Any, *args: Any, **options: Any) -> TransmissionMonitor:
        """Copy objects from another place.

        Parameters
        ----------
        cf_src : CloudFiles or str
        *args, **options
            See `transfer_to`.

        Returns
        -------
        TransmissionMonitor
        """
        return self._other(cf_src).transfer_to(self, *args, **options)

    def move(self, src: str, dest: str) -> None:
        """Move an object.

        Parameters
        ----------
        src : str
        dest : str
            Cloudpath of the object or, if it ends in a slash or is a folder of this computer, of
            where to put it.
        """
        path = paths_.asprotocolpath(paths_.extract(dest))
        base = paths_.basename(path) or paths_.basename(src)
        self.moves(paths_.dirname(path), [(src, base)], progress=False)

    def moves(
        self,
        cf_dest: Any,
        paths: Iterable[Any],
        block_size: int = 64,
        total: int | None = None,
        progress: Any = None,
    ) -> None:
        """Move objects: each is copied, then removed.

        Parameters
        ----------
        cf_dest : CloudFiles or str
        paths : iterable of str or (str, str)
            Names, or with the new ones.
        block_size : int
            Taken and not used.
        total : int, optional
        progress : bool or str, optional
        """
        dest = self._other(cf_dest)
        with self._bar("Moving", progress, paths, total) as bar:
            for _ in each(move(self, dest), pairs(paths), self.threads, bar):
                pass

    # -- sugar ---------------------------------------------------------------------------------

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, tuple) and len(key) == 2 and isinstance(key[1], slice):
            return self.get({"path": key[0], "start": key[1].start, "end": key[1].stop})
        if isinstance(key, slice):
            import itertools

            return self.get(itertools.islice(self.list(), key.start, key.stop, key.step))
        return self.get(key)

    def __setitem__(self, key: Any, value: Any) -> None:
        if not isinstance(value, CloudFiles):
            self.put(key, value)
        elif key == slice(None):
            self.transfer_from(value)
        else:
            raise KeyError(f"We only support the complete set slice. `:`. Got: {key}")

    def __delitem__(self, key: Any) -> None:
        self.delete(key)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.place.info(name) is not None

    def __iter__(self) -> Iterator[str]:
        return self.list()
