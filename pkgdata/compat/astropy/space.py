"""How much fits onto a disk, in bytes or with astropy's units."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def get_free_space_in_dir(path: str | os.PathLike[str], unit: Any = False) -> Any:
    """Return the free space of the disk that a folder is on.

    Parameters
    ----------
    path : path-like
        A folder.
    unit : bool or astropy unit, default False
        Return a quantity in this unit (True: bytes), which needs astropy.

    Returns
    -------
    int or astropy quantity
        Bytes, if no unit is asked for.

    Raises
    ------
    FileExistsError
        The path is a file.
    FileNotFoundError
        There is no such folder.
    """
    import shutil

    if not os.path.isdir(path):
        start = f"Cannot determine free space from {os.fspath(path)}"
        if os.path.isfile(path):
            raise FileExistsError(f"{start} (found a file, expected a directory)")
        raise FileNotFoundError(f"{start} (no such file or directory)")
    free = shutil.disk_usage(path).free
    if unit is False or unit is None:
        return free
    from astropy import units

    return units.Quantity(free, units.byte).to(units.byte if unit is True else unit)


def check_free_space_in_dir(path: str | os.PathLike[str], size: Any) -> None:
    """Make sure that so many bytes fit onto the disk that a folder is on.

    Parameters
    ----------
    path : path-like
        A folder.
    size : int or astropy quantity
        Bytes, if it has no unit.

    Raises
    ------
    OSError
        They do not fit, or there is no such folder.
    """
    import errno

    free = get_free_space_in_dir(path, getattr(size, "unit", False))
    if free < size:
        needed, left = (
            f"{one:,} bytes" if isinstance(one, int) else str(one) for one in (size, free)
        )
        raise OSError(
            errno.ENOSPC,
            f"not enough free space: {needed} are needed, {left} are left",
            os.fspath(path),
        )
