"""Many machines, on the engines that people have: `fetch_on` brings files to all of them.

Only names and digests travel to the workers, so that each finds the package by its name and uses
its own settings, folders and cache. Each engine is a module here with a function ``fetch``.
"""

from __future__ import annotations

from ..errors import UnsupportedOperationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from collections.abc import Iterable
    from typing import Any

    from ..base.progress import Callback
    from ..base.report import Report


def fetch_on(
    data: Any,
    names: str | os.PathLike[str] | Iterable[str | os.PathLike[str]] | None,
    on: Any,
    to: str | os.PathLike[str] | None,
    progress: Callback | bool | None,
) -> Report:
    """Make sure that files of a `PackageData` are on every machine of ``on``."""
    roots = {kind.__module__.partition(".")[0] for kind in type(on).__mro__}
    if "mpi4py" in roots or on == "mpi":
        from . import mpi

        return mpi.fetch(data, names, mpi.world() if on == "mpi" else on, to, progress)
    if on == "job" or on == "slurm":
        from . import job

        return (job.fetch if on == "job" else job.fetch_slurm)(data, names, to, progress)
    if isinstance(on, str):
        from .dask import client

        with client(on) as found:
            return fetch_on(data, names, found, to, progress)
    if "distributed" in roots and hasattr(on, "subscribe_topic"):
        from . import dask

        report: Report = dask.fetch(data, names, on, to, progress)
        return report
    raise UnsupportedOperationError(
        f"nothing can be fetched on {on!r} ({', '.join(sorted(roots))})",
        hint="on= takes a Dask client (a cluster has get_client()), an mpi4py communicator, 'job', "
        "'slurm' or 'mpi'",
    )
