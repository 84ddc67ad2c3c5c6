"""`CloudFile`: one object by its cloudpath, in cloud-files' words."""

from __future__ import annotations

from . import paths
from .files import CloudFiles
from .many import jsonify

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class CloudFile:
    """One object.

    Parameters
    ----------
    path : str
        Its cloudpath.
    cache_meta : bool
        Ask for `head` and `size` once only.
    secrets, composite_upload_threshold, locking, lock_dir, endpoint, no_sign_request
        See `CloudFiles`.
    request_payer, use_https
        See `CloudFiles`.
    """

    def __init__(
        self,
        path: str,
        *,
        cache_meta: bool = False,
        secrets: Any = None,
        composite_upload_threshold: int = 100_000_000,
        locking: bool = True,
        lock_dir: str | None = None,
        endpoint: str | None = None,
        no_sign_request: bool = False,
        request_payer: str | None = None,
        use_https: bool = False,
    ) -> None:
        path = paths.normalize(paths.refuse_unknown(path))
        self.cf = CloudFiles(
            paths.dirname(path),
            secrets=secrets,
            composite_upload_threshold=composite_upload_threshold,
            locking=locking,
            lock_dir=lock_dir,
            use_https=use_https,
            endpoint=endpoint,
            request_payer=request_payer,
            no_sign_request=no_sign_request,
        )
        self.filename = paths.basename(path)
        self.cache_meta = cache_meta
        self._size: int | None = None
        self._head: Any = None

    def __repr__(self) -> str:
        return f"<CloudFile {self.cf.place.store.address(self.cf.place.key(self.filename))}>"

    @property
    def sep(self) -> str:
        """See `CloudFiles.sep`."""
        return self.cf.sep

    @property
    def protocol(self) -> str:
        """See `CloudFiles.protocol`."""
        return self.cf.protocol

    @property
    def lock_dir(self) -> str | None:
        """What was given; there are no lock files."""
        return self.cf.lock_dir

    def clear_locks(self) -> None:
        """Do nothing: there are no lock files."""

    def delete(self) -> int:
        """Remove it; that it is not there is no error.

        Returns
        -------
        int
            1
        """
        self._forget()
        return self.cf.delete(self.filename)

    def exists(self) -> bool:
        """Say whether it is there.

        Returns
        -------
        bool
        """
        return bool(self.cf.exists(self.filename))

    def get(self, ranges: Any = None, raw: bool = False) -> Any:
        """Read it, or parts of it.

        Parameters
        ----------
        ranges : iterable of slice, (int, int) or dict, optional
        raw : bool
            Stored bytes as they are.

        Returns
        -------
        bytes or None, or list of dict
            See `CloudFiles.get`.
        """
        if ranges is None:
            found = self.cf.get(self.filename, raw=raw)
            if raw and found is not None:
                self._size = len(found)
            return found
        return self.cf.get([self._range(one) for one in ranges], raw=raw)

    def _range(self, one: Any) -> dict[str, Any]:
        if isinstance(one, dict):
            return {"path": self.filename, **one}
        start, end = (one.start, one.stop) if isinstance(one, slice) else one
        return {"path": self.filename, "start": start, "end": end}

    def get_json(self) -> Any:
        """Read it as JSON.

        Returns
        -------
        object
            None if it is not there.
        """
        return self.cf.get_json(self.filename)

    def get_acl(self) -> Any:
        """See `CloudFiles.get_acl`.

        Returns
        -------
        dict
        """
        return self.cf.get_acl(self.filename)

    def put(self, content: Any, *args: Any, **kwargs: Any) -> int:
        """Write it.

        Parameters
        ----------
        content : bytes-like, str or binary file object
        *args, **kwargs
            See `CloudFiles.put`.

        Returns
        -------
        int
            1
        """
        self._forget()
        return self.cf.put(self.filename, content, *args, **kwargs)

    def put_json(self, content: Any, *args: Any, **kwargs: Any) -> int:
        """Write it as JSON.

        Parameters
        ----------
        content : object
        *args, **kwargs
            See `CloudFiles.put`.

        Returns
        -------
        int
            1
        """
        if not args:
            kwargs["content_type"] = "application/json"
        return self.put(jsonify(content), *args, **kwargs)

    def _forget(self) -> None:
        self._size = self._head = None

    def head(self) -> Any:
        """See `CloudFiles.head`.

        Returns
        -------
        dict or None
        """
        if self._head is None or not self.cache_meta:
            self._head = self.cf.head(self.filename)
        return self._head

    def size(self) -> Any:
        """Return its bytes as it is stored.

        Returns
        -------
        int or None
        """
        if self._size is None or not self.cache_meta:
            self._size = self.cf.size(self.filename)
        return self._size

    def transfer_to(self, cloudpath: str, reencode: Any = None) -> None:
        """Copy it.

        Parameters
        ----------
        cloudpath : str
            Of the copy.
        reencode : str, optional
            See `CloudFiles.transfer_to`.
        """
        there = CloudFile(cloudpath)
        self.cf.transfer_to(there.cf, [(self.filename, there.filename)], reencode=reencode)

    def transfer_from(self, cloudpath: str, reencode: Any = None) -> None:
        """Make it a copy of another object.

        Parameters
        ----------
        cloudpath : str
            Of the original.
        reencode : str, optional
            See `CloudFiles.transfer_to`.
        """
        self._forget()
        there = CloudFile(cloudpath)
        self.cf.transfer_from(there.cf, [(there.filename, self.filename)], reencode=reencode)

    def touch(self) -> None:
        """Make it, empty, if it is not there."""
        self._forget()
        self.cf.touch(self.filename)

    def move(self, dest: str) -> None:
        """Move it.

        Parameters
        ----------
        dest : str
            See `CloudFiles.move`.
        """
        self.cf.move(self.filename, dest)

    def join(self, *args: str) -> str:
        """See `CloudFiles.join`.

        Parameters
        ----------
        *args : str

        Returns
        -------
        str
        """
        return self.cf.join(*args)

    def dirname(self, path: str) -> str:
        """See `CloudFiles.dirname`.

        Parameters
        ----------
        path : str

        Returns
        -------
        str
        """
        return self.cf.dirname(path)

    def basename(self, path: str) -> str:
        """See `CloudFiles.basename`.

        Parameters
        ----------
        path : str

        Returns
        -------
        str
        """
        return self.cf.basename(path)

    def __len__(self) -> int:
        return self.size() or 0

    def __getitem__(self, span: slice) -> Any:
        return self.cf[self.filename, span]

    def __setitem__(self, span: Any, content: Any) -> None:
        if span != slice(None):
            raise KeyError(f"We only support the complete set slice. `:`. Got: {span}")
        self.put(content)
