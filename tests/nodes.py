"""A Dask cluster whose workers have caches of their own, as on machines of their own."""

from __future__ import annotations

import os
import signal
import sys


class Nodes:
    """A cluster of workers, each with its own cache, as on machines of their own."""

    def __init__(self, work, site, count, caches=None):
        self._caches = caches or 1000
        import distributed  # who imports this module may have to skip

        self._work, self._site, self._nanny = work, site, distributed.Nanny
        self.cluster = distributed.SpecCluster(
            workers={number: self._spec(number) for number in range(count)},
            scheduler={
                "cls": distributed.Scheduler,
                "options": {"host": "127.0.0.1", "dashboard_address": "127.0.0.1:0"},
            },
            silence_logs=True,
        )
        self.client = distributed.Client(self.cluster)
        if count:
            self.client.wait_for_workers(count, timeout=60)

    def cache(self, number):
        return self._work / f"node{number}"

    def _spec(self, number):
        variables = {
            "PKGDATA_CACHE_DIR": str(self.cache(number % self._caches)),
            "PYTHONPATH": os.pathsep.join([str(self._site), *sys.path]),
        }
        options = {"nthreads": 1, "env": variables, "local_directory": str(self._work)}
        return {"cls": self._nanny, "options": options}

    def add(self, number):
        self.cluster.worker_spec[number] = self._spec(number)
        self.cluster.sync(self.cluster._correct_state)
        self.client.wait_for_workers(len(self.cluster.worker_spec), timeout=60)

    def whole(self):
        """Wait until no worker is missing; start all again if a nanny has given up."""
        try:
            self.client.wait_for_workers(len(self.cluster.worker_spec), timeout=60)
        except TimeoutError:
            self.client.restart(timeout=120)

    def kill(self, label):
        """Kill the worker of a label in a report; return its cache."""
        root = label.partition(":")[2]
        self.client.run(suicide, root, on_error="ignore")
        return root

    def close(self):
        self.client.close()
        self.cluster.close()


def suicide(root):
    if os.environ["PKGDATA_CACHE_DIR"] == root:
        os.kill(os.getpid(), signal.SIGKILL)
