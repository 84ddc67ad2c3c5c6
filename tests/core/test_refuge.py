"""Threads that meet a cache that cannot be written to."""

from __future__ import annotations

import threading

import pytest

from pkgdata.core.lookup import Settings
from pkgdata.errors import CacheError, CacheWarning


def test_threads_share_one_temporary_cache(tmp_path):
    settings = Settings("refuge", {"cache_dir": str(tmp_path / "cache")}, [])
    first, together = settings.user_cache, threading.Barrier(8)
    roots: list[str] = []

    def work(cache) -> str:
        if cache is first:
            together.wait(30)
            raise CacheError("read-only", unwritable=True)
        return cache.root

    def run() -> None:
        threads = [
            threading.Thread(target=lambda: roots.append(settings.in_cache(work))) for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    with pytest.warns(CacheWarning, match="files are kept in") as caught:
        run()
    assert (len(roots), len(set(roots)), len(caught)) == (8, 1, 1)
