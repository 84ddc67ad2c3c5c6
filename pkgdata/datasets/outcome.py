"""What `push` and `pull` answer: which dataset, and how much of it moved."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..base.hashes import Digest


class Outcome:
    """What was done, or with ``dry_run`` what would be.

    Parameters
    ----------
    name : str
        Of the dataset.
    path : str
        Where it is: a folder, or the address in the repository.
    form : str
        ``"pkgdata"`` or ``"etcetera"``.
    digest : Digest or None, optional
        Identity of the dataset; None where it is not known without moving its bytes.

    Attributes
    ----------
    files, size : int
        Files of the dataset, or of the partitions asked for, and their bytes.
    moved_files, moved_bytes : int
        Files that were not there yet, and the bytes that passed over the network for them.
    objects : int
        Objects that they were in.
    """

    __slots__ = (
        "digest",
        "files",
        "form",
        "moved_bytes",
        "moved_files",
        "name",
        "objects",
        "path",
        "size",
    )

    def __init__(self, name: str, path: str, form: str, digest: Digest | None = None) -> None:
        self.name = name
        self.path = path
        self.form = form
        self.digest = digest
        self.files = self.size = self.moved_files = self.moved_bytes = self.objects = 0

    def __repr__(self) -> str:
        return (
            f"<Outcome {self.name}: {self.files} files, {self.size} bytes; moved "
            f"{self.moved_files} files, {self.moved_bytes} bytes>"
        )
