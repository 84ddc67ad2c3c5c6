"""``fetch(on="job")`` for the ranks that srun, mpiexec, torchrun or flux start, and ``on="slurm"``.

The environment of a rank only says who begins: the ranks on the node of rank 0. The others watch
the user's cache, one process of each node, which is spared most of the questions. They take over
if nothing grows any more, the later the higher their node's number. So nothing has to be connected
or agreed on, and a killed rank is replaced.

On ``"slurm"`` a batch script fetches once, sends the files with sbcast to the other nodes, and lets
srun start one process on each, which verifies what came on its way into the node's cache.
"""

from __future__ import annotations

import json
import os
import pickle
import platform
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from ..base import disk, fs, locks, owners
from ..base.hashes import short_key
from ..base.progress import WAIT, Callback, Event, view
from ..base.report import HostShare, Report, each_name, short, tried
from ..errors import CacheWarning, ConfigError, PkgdataError, StoreError, warn
from .mpi import keep

#: Variables that hold a rank, its number on its node, how many the node has, and the node's number.
#: The first row that is there counts; Slurm is last, for the others may run within it.
_VARIABLES = (
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE", ""),
    ("PMI_RANK", "MPI_LOCALRANKID", "MPI_LOCALNRANKS", ""),
    ("PALS_RANKID", "PALS_LOCAL_RANKID", "PALS_LOCAL_SIZE", "PALS_NODEID"),
    ("MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_LOCAL_RANK", "MV2_COMM_WORLD_LOCAL_SIZE", ""),
    ("JSM_NAMESPACE_RANK", "JSM_NAMESPACE_LOCAL_RANK", "JSM_NAMESPACE_LOCAL_SIZE", ""),
    ("RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK"),
    ("FLUX_TASK_RANK", "FLUX_TASK_LOCAL_ID", "", ""),
    ("SLURM_PROCID", "SLURM_LOCALID", "", "SLURM_NODEID"),
)

#: Seconds without growth after which the first node takes over; more for each further one, up to
#: the most.
PATIENCE, LATER, MOST = 6.0, 2.0, 60.0


class Seat(NamedTuple):
    """Where a process is in its job: its rank, and the number of its node, 0 for rank 0's."""

    rank: int
    node: int


def seat(environ: Mapping[str, str] = os.environ) -> Seat | None:
    """Return what the environment tells; None if this is no rank of a job."""
    for row in _VARIABLES:
        found = [int(value) if (value := environ.get(key, "")).isdigit() else -1 for key in row]
        rank, local, size, node = found
        if rank < 0 or local < 0:
            continue
        if rank == local:
            node = 0  # all ranks below it are here, rank 0 too
        elif node < 0:
            node = max(1, (rank - local) // max(1, size))  # as ranks are usually dealt out
        return Seat(rank, node)
    return None


def fetch(
    data: Any, names: Any, to: str | os.PathLike[str] | None, progress: Callback | bool | None
) -> Report:
    """Make sure that files are here, in step with the other ranks of the job."""
    here = seat()
    if here is None:
        return data.fetch(names, to=to, progress=progress)  # type: ignore[no-any-return] # data is a PackageData, of a room above
    began = time.monotonic()
    wanted = list(dict.fromkeys(data.registry if names is None else each_name(names)))
    crew = _Crew(data, wanted, here, progress)
    try:
        failed = crew.wait()
        far = crew.far()
        good = [name for name in wanted if name not in failed]
        report = tried(data.fetch, good, to=to, progress=crew.show)
        crew.tell(report.failed, failed)
    finally:
        crew.leave()
    report.failed.update(failed)
    if crew.works:
        copied = [size for name, size in far.items() if name in report.succeeded]
        share = HostShare(sum(report.new.values()), sum(copied), time.monotonic() - began)
        share.files = len(report.new) + len(copied)
        report.hosts[platform.node()] = share
    report.raise_if_failed(data.name)
    return report


class _Note:
    """What became of the work, for those who wait for it: the failures by name, in a file.

    Only what is written after somebody began to wait concerns them; so notes need not be removed.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._before = self._read()

    def _read(self) -> tuple[int, str]:
        try:
            with open(self._path, encoding="utf-8", opener=fs.plain) as file:
                return os.fstat(file.fileno()).st_mtime_ns, file.read(1 << 20)
        except (OSError, ValueError):
            return 0, ""

    def is_new(self) -> bool:
        """Return True if something was written since this was made."""
        try:
            return os.stat(self._path).st_mtime_ns != self._before[0]
        except OSError:
            return False

    def failures(self) -> dict[str, Exception]:
        """Return what was written."""
        try:
            found: dict[str, str] = json.loads(self._read()[1])
            return {str(name): PkgdataError(str(why)) for name, why in found.items()}
        except (ValueError, AttributeError):
            return {}  # cut off or not ours: each then finds out itself

    def write(self, failed: Mapping[str, Exception]) -> None:
        """Tell the others."""
        node = platform.node()
        text = json.dumps({name: f"{short(error)} ({node})" for name, error in failed.items()})
        try:
            fs.make_dirs(os.path.dirname(self._path))
            fs.write_atomic(self._path, text.encode(), sync=False, follow=True)
        except OSError:
            pass  # each then finds out itself


class _Crew:
    """The ranks of a job that want the same files; this one among them."""

    def __init__(
        self, data: Any, names: list[str], here: Seat, progress: Callback | bool | None
    ) -> None:
        self._data = data
        self._here, self._names = here, names
        self._missing = [name for name in names if not self._is_here(name)]
        sizes = [data.registry[name].size for name in self._missing]
        total = None if None in sizes else sum(sizes)
        self._view = view(progress, len(names), total, data.setting("progress"))
        root = data.cache.root
        key = short_key("\n".join([root, data.name, *sorted(map(str, names))]))
        own = os.path.join(_private() or os.path.join(root, "hosts-v1"), f"{platform.node()}-{key}")
        self._local = _Note(f"{own}.json")
        #: In the user's cache, which the nodes may share.
        self._shared = _Note(os.path.join(root, "hosts-v1", f"job-{key}.json"))
        self._timeout: float = data.cache.lock_timeout
        self._lock = locks.KeyLock(f"{own}.lock", self._timeout)
        #: Whether this process works for its node; the others wait for it.
        self.works = here.rank == 0
        self._touched = 0.0

    def _is_here(self, name: str) -> bool:
        try:
            return name not in self._data.registry or self._data.find(name) is not None
        except (PkgdataError, OSError):
            return True  # what fetches it reports why

    def far(self) -> dict[str, int]:
        """Return by name the bytes of what is copied from the user's cache to the node's here."""
        if not self.works or self._data.node_cache is None:
            return {}
        paths = {name: self._data.find(name) for name in self._names if self._is_here(name)}
        begin = self._data.cache.root + os.sep
        return {n: os.path.getsize(p) for n, p in paths.items() if p and p.startswith(begin)}

    def wait(self) -> dict[str, Exception]:
        """Wait for this process's turn, and for those who begin; return what failed there."""
        if not self._missing or self.works or self._data._settings.is_offline:
            return {}
        try:
            self._lock.acquire(self._local.is_new, self._signs, self._waits)
        except OSError:
            pass  # nowhere to put a lock: this process works as well
        if self._local.is_new():
            self.leave()
            return self._local.failures()
        self.works = True
        if self._here.node == 0:
            return {}
        root = self._data.cache.root
        try:
            os.makedirs(root, exist_ok=True)
        except OSError:
            return {}  # what fetches reports it
        if disk.is_local(os.path.join(root, "")):
            text = f"the cache {root} is on a disk of this node, so each node downloads for itself"
            hint = "set PKGDATA_CACHE_DIR to a folder that the nodes share and PKGDATA_NODE_CACHE"
            warn(f"{text}; {hint} to the disk, or use on='slurm'", CacheWarning)
            return {}
        return self._hold_back()

    def _waits(self, _: float) -> None:
        """Show that another process of this node is at work."""
        name = self._missing[0]
        self._view(Event(name, WAIT, 0, self._data.registry[name].size, platform.node()))

    def _signs(self) -> list[tuple[str, int, int]]:
        """Return what changes while the process of this node works whose turn it is."""
        path = self._lock.path
        try:
            return [(path, 0, os.stat(path).st_mtime_ns)]
        except OSError:
            return []

    def _hold_back(self) -> dict[str, Exception]:
        """Wait while another node brings the files into the cache that this node shares with it."""
        cache, left = self._data.cache, self._missing[::-1]
        patience = PATIENCE + min(LATER * self._here.node, MOST)
        began = changed = time.monotonic()
        last: object = None
        while left:
            while left and self._is_here(left[-1]):
                left.pop()
            if self._shared.is_new():
                return self._shared.failures()
            digests = [self._data.registry[name].digest for name in left]
            work = self._data._downloads().growing(cache, filter(None, digests))
            now = time.monotonic()
            if (len(left), work) != last:
                last, changed = (len(left), work), now
            if now - changed > patience:
                # the process there is stuck or dead, and not waited for again
                cache.stuck.update(owners.of(path) for path, _ in work.values())
                cache.lock_timeout = min(cache.lock_timeout, patience)
                break
            self._touch()
            time.sleep(min(locks.pause(now - began), max(0.05, changed + patience - now)))
        return {}

    def show(self, event: Event) -> None:
        """Show progress, and tell those who wait on this node that there is some."""
        self._touch()
        self._view(event)

    def _touch(self) -> None:
        now = time.monotonic()
        if self.works and now - self._touched > 1:
            self._touched = now
            try:
                os.utime(self._lock.path)
            except OSError:
                pass  # rank 0 works without the lock, and nobody may wait

    def tell(self, here: dict[str, Exception], elsewhere: dict[str, Exception]) -> None:
        """Tell the others what failed in this process, and what it heard of."""
        if self.works and self._missing:
            self._local.write({**elsewhere, **here})
            if here:
                self._shared.write(here)

    def leave(self) -> None:
        """Let the next process of this node have its turn."""
        self._data.cache.lock_timeout = self._timeout
        self._lock.remove()
        self._lock.release()


def _private() -> str:
    """Return a folder of this user alone, on a disk of this node as a rule; "" if there is none."""
    try:
        path = os.path.join(tempfile.gettempdir(), f"pkgdata-{getattr(os, 'geteuid', int)()}")
        try:
            os.mkdir(path, 0o700)
        except FileExistsError:
            found = os.lstat(path)
            if not stat.S_ISDIR(found.st_mode) or fs.is_foreign(found):
                return ""  # another user's trap
        return path if os.access(path, os.W_OK) else ""
    except OSError:
        return ""


# -- Slurm, from its batch script ------------------------------------------------------------------

#: Bytes that are sent together: a node needs room for no more than that, or for one file, twice.
BUNDLE = 1 << 30


def fetch_slurm(
    data: Any, names: Any, to: str | os.PathLike[str] | None, progress: Callback | bool | None
) -> Report:
    """Fetch files here, once, and bring them into the caches of all nodes of this allocation."""
    if not os.environ.get("SLURM_JOB_NUM_NODES"):
        raise ConfigError(
            "on='slurm' needs an allocation of Slurm, and SLURM_JOB_NUM_NODES is not set",
            hint="use it in a script for sbatch, or within salloc; tasks of srun use on='job'",
        )
    if os.environ.get("SLURM_PROCID", "0") != "0":
        raise ConfigError(
            "on='slurm' is for the batch script, and this is a task of srun",
            hint="use on='job' in tasks",
        )
    lacking = [tool for tool in ("srun", "sbcast") if shutil.which(tool) is None]
    if lacking:
        raise ConfigError(f"on='slurm' needs {' and '.join(lacking)}, which PATH does not have")
    began = time.monotonic()
    report = tried(data.fetch, names, to=to, progress=progress)  # what came goes to the nodes
    origin = HostShare(sum(report.new.values()), 0, time.monotonic() - began, len(report.new))
    report.hosts[platform.node()] = origin
    bundles = _bundles(data, report.succeeded)
    answers = _ask(data, bundles) if bundles[0] else []
    lacks = {number for answer in answers for number in answer["lacks"]}
    for number in sorted(lacks):
        _send(data, report, bundles[number], began)
    report.raise_if_failed(data.name)
    return report


def _bundles(data: Any, paths: Mapping[str, str]) -> list[list[str]]:
    """Return the names that have a digest in groups of not too many bytes."""
    bundles: list[list[str]] = [[]]
    filled = 0
    for name in paths:
        if name in data.registry and data.registry[name].digest is not None:
            size = os.path.getsize(paths[name])
            if bundles[-1] and filled + size > BUNDLE:
                bundles.append([])
                filled = 0
            bundles[-1].append(name)
            filled += size
    return bundles


def _ask(data: Any, bundles: list[list[str]], bundle: str = "") -> list[dict[str, Any]]:
    """Run one process on each node, and return what they answer; see `_answer`."""
    count = os.environ["SLURM_JOB_NUM_NODES"]
    command = ["srun", f"--nodes={count}", f"--ntasks={count}", "--ntasks-per-node=1", "--overlap"]
    # what the script asked for its own tasks is not meant for these
    command += ["--cpus-per-task=1", "--input=all", "--quiet", "--kill-on-bad-exit=0"]
    command += [sys.executable, "-m", "pkgdata.cluster.job", bundle]
    done = subprocess.run(command, input=pickle.dumps((data, bundles)), capture_output=True)
    answers = [json.loads(line) for line in done.stdout.splitlines() if line.startswith(b"{")]
    if done.returncode or len(answers) != int(count):
        said = done.stderr.decode(errors="replace").strip()
        raise StoreError(
            f"srun got an answer of {len(answers)} of {count} nodes (exit code {done.returncode})"
            + (f":\n{said}" if said else "")
        )
    return answers


def _send(data: Any, report: Report, names: list[str], began: float) -> None:
    """Send files to all nodes, and let these verify and keep them."""
    import tarfile

    with disk.temporary("send") as folder:
        source = os.path.join(folder, "files.tar")
        with tarfile.open(source, "w", dereference=True) as tar:
            for name in names:
                tar.add(report.succeeded[name], name)
        # a name of its own, so that no other's file is overwritten or read
        target = f"{folder}.tar"
        command = ["sbcast", source, target]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise StoreError(
                f"sbcast could not copy {target} to the nodes: {done.stderr.strip()}",
                hint="set TMPDIR to a folder that is on a disk of its own on each node",
            )
    for answer in _ask(data, [names], target):
        share = report.hosts.setdefault(answer["host"], HostShare())
        share.peers += answer["bytes"]
        share.files += answer["files"]
        share.seconds = time.monotonic() - began
        for name, why in answer["failed"].items():
            report.succeeded.pop(name, None)
            report.failed[name] = PkgdataError(f"{why} ({answer['host']})")


def _answer(data: Any, bundles: list[list[str]], bundle: str) -> dict[str, Any]:
    """Return what a node has to say: which bundles it lacks, or what came of the one it got."""
    host = platform.node()
    target = data.node_cache or data.cache
    if not bundle:
        lacks = [n for n, names in enumerate(bundles) if _lacking(data, target, names)]
        return {"host": host, "lacks": lacks}
    import tarfile

    found: dict[str, Any] = {"host": host, "bytes": 0, "files": 0, "failed": {}}
    with open(bundle, "rb") as file, tarfile.open(fileobj=file) as tar:
        os.unlink(bundle)
        lacking = set(_lacking(data, target, bundles[0]))
        for member in tar:
            if member.name in lacking:
                try:
                    while not keep(data, data.registry[member.name], tar.extractfile(member)):
                        pass  # the node's cache is full; now it goes into the user's
                    found["files"] += 1
                    found["bytes"] += member.size
                except (PkgdataError, OSError) as error:
                    found["failed"][member.name] = short(error)
    return found


def _lacking(data: Any, target: Any, names: list[str]) -> list[str]:
    """Return which files this node's cache lacks, and no folder has."""
    user, absent = data.cache.root + os.sep, []
    for name in names:
        path = data.find(name)
        # what is in a cache that nodes share is to be on the node's disk, too, if it has a cache
        if path is None or (target is not data.cache and path.startswith(user)):
            absent.append(name)
    return absent


if __name__ == "__main__":
    asked, lists = pickle.load(sys.stdin.buffer)  # noqa: S301 - from srun, that is from `_ask`
    sys.stdout.write(json.dumps(_answer(asked, lists, sys.argv[1])) + "\n")
