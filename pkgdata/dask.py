"""Data files on Dask clusters whose workers come and go.

For the workers that are there, `PackageData.fetch` takes a client: ``data.fetch(on=client)``. For
those that come later too::

    client.register_plugin(pkgdata.dask.Stage("mypkg"))

or, where workers are started::

    dask worker tcp://SCHEDULER:8786 --preload pkgdata.dask mypkg
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from .cluster import dask as _cluster
from .core.declaration import find_package
from .core.package import PackageData

try:
    import click
    from distributed import Worker, WorkerPlugin
except ImportError:
    # making a `Stage` says what is missing
    WorkerPlugin = click = None  # type: ignore[assignment,unused-ignore] # where they are there

__all__ = ["Stage"]


class Stage(WorkerPlugin or object):  # type: ignore[misc] # of a library that may be missing
    """A plugin that brings a package's files to every worker when it starts, from a neighbour.

    The first worker asks the mirrors. Tasks of a worker begin when its files are there, or after
    ``wait`` seconds; those that then need a file wait for it.

    Parameters
    ----------
    package : str or PackageData
        A package that is installed on the workers, by name; or what `declare` returned.
    names : str, path-like or iterable of these, optional
        All of the registry by default.
    wait : float, default 120
        Seconds for which the start of a worker waits.

    Raises
    ------
    MissingExtraError
        distributed is not installed.
    """

    def __init__(
        self,
        package: str | PackageData,
        names: str | os.PathLike[str] | Iterable[str | os.PathLike[str]] | None = None,
        wait: float = 120.0,
    ) -> None:
        if WorkerPlugin is None:
            raise _cluster.missing()
        self._package = package
        self._names = names
        self._wait = wait
        #: What Dask knows it by: one for each package.
        self.name = f"pkgdata-{package if isinstance(package, str) else package.name}"

    async def setup(self, worker: Any) -> None:
        """Bring the files to a worker.

        Parameters
        ----------
        worker : distributed.Worker

        Raises
        ------
        BatchError
            Some could not be fetched.
        """
        data = self._package
        if isinstance(data, str):
            data = find_package(data)
        await _cluster.stage(worker, data, self._names, self._wait)


async def _setup(server: Any, packages: tuple[str, ...]) -> None:
    if isinstance(server, Worker):  # the option may stand in a file that schedulers read too
        for package in packages:
            await Stage(package).setup(server)


if click is not None:
    #: What ``--preload pkgdata.dask PACKAGE...`` runs in each worker.
    dask_setup = click.Command(
        "dask_setup",
        callback=_setup,
        params=[click.Argument(["packages"], nargs=-1, required=True)],
    )
