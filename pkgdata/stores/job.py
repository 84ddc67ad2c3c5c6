"""A bulk copy that may be interrupted and shared: a SQLite file keeps count of what is done.

::

  meta(key, value)                         what is copied where, in words
  work(name, target, state, owner, error)  state: 0 to do, 1 taken, 2 done, 3 failed

Who takes work writes its owner token; what a process took that has ended since is to be done
again. Work counts as done only after its copy is complete, so the file may lose the last of it (the
machine's power fails) and that is copied once more.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any

from ..base import owners
from ..base.pool import chunks
from ..errors import ConfigError, StoreError

WAITING, TAKEN, DONE, FAILED = range(4)

#: Objects that a process takes at a time: few enough that others find work until the end.
BATCH = 32

#: Seconds to wait for another process that changes the file.
_PATIENCE = 60

_SCHEMA = """
create table if not exists meta(key text primary key, value text);
create table if not exists work(
  name text, target text, state integer not null default 0, owner text, error text,
  primary key(name, target)
) without rowid;
create index if not exists work_by_state on work(state);
"""


class Job:
    """The work that is left, shared by all processes that name the same file.

    ``words`` say what is copied where; a file that says otherwise is refused.
    """

    def __init__(self, path: str, words: str) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._mine = _new_owner()
        try:
            self._db = sqlite3.connect(path, timeout=_PATIENCE, check_same_thread=False)
            _prepare(self._db)
            with self._db:
                self._db.execute("insert or ignore into meta values('job', ?)", (_told(words),))
            (found,) = self._db.execute("select value from meta where key='job'").fetchone()
        except sqlite3.Error as error:
            if hasattr(self, "_db"):
                self._db.close()
            raise self._error(error) from error
        if found != _told(words):
            self._db.close()
            raise ConfigError(
                f"{path} is of another job: expected {words!r}, found {found!r}",
                hint="name another file, or remove this one",
            )

    def _error(self, error: Exception) -> StoreError:
        what, hint = "cannot keep a job", "if it is damaged, remove it: the job begins again"
        if "disk is full" in str(error):  # sqlite's words; Python 3.10 has no code for it
            what, hint = "no space for a job", "free some on this disk; the job is then resumed"
        elif "readonly" in str(error) or "unable to open" in str(error):
            hint = "name a file in a folder where you may write"
        return StoreError(f"{self._path}: {what}: {error}", hint=hint, url=self._path)

    @contextlib.contextmanager
    def _changing(self) -> Iterator[None]:
        """Change the file, all or nothing; say in our words what is wrong with it."""

        try:
            with self._lock, self._db:
                yield
        except sqlite3.Error as error:
            raise self._error(error) from error

    def _execute(self, words: str, *values: Any) -> list[Any]:
        with self._changing():
            return self._db.execute(words, values).fetchall()

    def plan(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Note what is to be copied, unless that is noted already, and take up what was lost."""
        if not self._execute("select 1 from meta where key='planned'"):
            for part in chunks(pairs, 1000):
                with self._changing():
                    self._db.executemany(
                        "insert or ignore into work(name, target) values(?, ?)", map(_kept, part)
                    )
            self._execute("insert or ignore into meta values('planned', '1')")
        # a new call tries again what failed in an earlier one
        self._execute("update work set state=0, error=null where state=?", FAILED)
        self._take_up()

    def _take_up(self) -> bool:
        """Put back what ended processes took; return True if there was any."""
        with self._changing():
            owners = self._db.execute(
                "select distinct owner from work where state=? and owner<>?", (TAKEN, self._mine)
            ).fetchall()
            gone = [(TAKEN, owner) for (owner,) in owners if _is_gone(owner)]
            self._db.executemany("update work set state=0 where state=? and owner=?", gone)
        return bool(gone)

    def left(self) -> int:
        """Return how many objects are not done."""
        ((count,),) = self._execute("select count(*) from work where state<>?", DONE)
        return int(count)

    def take(self) -> Iterator[tuple[str, str]]:
        """Yield work until there is none."""
        while True:
            with self._changing():
                self._db.execute("begin immediate")
                rows: list[Any] = self._db.execute(
                    "select name, target from work where state=? limit ?", (WAITING, BATCH)
                ).fetchall()
                self._db.executemany(
                    "update work set state=?, owner=? where name=? and target=?",
                    [(TAKEN, self._mine, *pair) for pair in rows],
                )
            if rows:
                yield from map(_names, rows)
            elif not self._take_up():
                return

    def done(self, pair: tuple[str, str], error: Exception | None) -> None:
        """Note that an object is copied, or why not."""
        state, text = (DONE, None) if error is None else (FAILED, _told(str(error)))
        words = "update work set state=?, error=? where name=? and target=?"
        self._execute(words, state, text, *_kept(pair))

    def __enter__(self) -> Job:
        return self

    def __exit__(self, *_: object) -> None:
        try:  # what was taken and not done is anybody's again
            self._execute("update work set state=0 where state=? and owner=?", TAKEN, self._mine)
        finally:
            _open.discard(self._mine)
            with self._lock:
                self._db.close()


def _kept(pair: Iterable[str]) -> list[str | bytes]:
    """Return names as SQLite takes them: texts, or the bytes of those that are not UTF-8."""
    return [
        name
        if name.isprintable() or not any("\ud800" <= c < "\ue000" for c in name)
        else name.encode(errors="surrogateescape")
        for name in pair
    ]


def _names(kept: Iterable[str | bytes]) -> tuple[str, str]:
    name, target = (k if isinstance(k, str) else k.decode(errors="surrogateescape") for k in kept)
    return name, target


def _told(text: str) -> str:
    return text.encode(errors="backslashreplace").decode()


def _prepare(db: sqlite3.Connection) -> None:
    """Make the tables, also where other processes open the same new file at this moment.

    SQLite does not wait for a lock in two places: the change to a write-ahead log, and two readers
    that both want to write. So the first is tried again here, and the second does not arise.
    """
    give_up = time.monotonic() + _PATIENCE
    while True:
        try:
            db.execute("pragma journal_mode=wal")
            break
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > give_up:
                raise
            time.sleep(0.01)
    db.execute("pragma synchronous=normal")
    db.executescript(f"begin immediate; {_SCHEMA} commit;")


#: Owners that are jobs of this process.
_open: set[str] = set()


def _new_owner() -> str:
    """Return a text that names a job of this process, and no other one, ever.

    A process may get the number of one that was killed, in a container even always the same.
    """
    owner = f"{os.urandom(4).hex()}.{_started(os.getpid())}.{owners.token()}"
    _open.add(owner)
    return owner


def _is_gone(owner: str) -> bool:
    _, started, token = owner.split(".")
    if token == owners.token():
        return owner not in _open
    place, _, pid = token.rpartition("-")
    if place != owners.token().rpartition("-")[0]:
        return False  # of another machine nothing can be said
    return owners.is_gone(token) or _started(int(pid)) != started


def _started(pid: int) -> str:
    """Return when a process was started, or nothing where that is not told."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[19].decode()
    except (OSError, IndexError):
        return ""
