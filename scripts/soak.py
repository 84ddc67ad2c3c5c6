"""Kill every verb at random moments, then run it again; crowd one cache; prune while others read.

    python scripts/soak.py [--seconds 60] [--seed 1] [--crowd 40]

Processes are real, the server is a plain one on loopback, kills are SIGKILL. After each kill the
same command must end well with every byte right (`wrong` counts where not, `hung` where it did not
end), and what the killed process left must be gone (`litter`: files next to those that belong
there, or in TMPDIR). The figures are printed as a table; the exit code is 1 if one of the three is
not 0. Linux and macOS.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import hashlib
import http.server
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

#: Seconds after which a command counts as hung.
PATIENCE = 60.0
SMALL, LARGE = 120, 2


@dataclass
class Count:
    """What became of one kind of trial."""

    tried: int = 0
    wrong: int = 0
    hung: int = 0
    litter: int = 0
    notes: list[str] = field(default_factory=list)


class Verb(NamedTuple):
    """A command, the folder that it fills, and what must be there afterwards."""

    words: list[str]
    folder: Path
    expected: dict[str, bytes]


#: The paths that were asked for.
asked: list[str] = []


class _Quiet(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Count, and answer."""
        asked.append(self.path)
        super().do_GET()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


class _Server(http.server.ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of connections whose client was killed."""


class House:
    """A folder with a package, its files, a server for them, and a place for each trial."""

    def __init__(self, top: Path, seed: int) -> None:
        self.top = top
        self.random = random.Random(seed)
        sizes = [self.random.randrange(200, 40_000) for _ in range(SMALL)] + [6_000_000] * LARGE
        self.files = {
            f"d{n % 7}/file{n}.bin": self.random.randbytes(size) for n, size in enumerate(sizes)
        }
        self.temporary = top / "tmp"
        self.temporary.mkdir()
        self.site = top / "site"
        for name, content in self.files.items():
            (self.site / name).parent.mkdir(parents=True, exist_ok=True)
            (self.site / name).write_bytes(content)
        handler = functools.partial(_Quiet, directory=str(self.site))
        self.server = _Server(("127.0.0.1", 0), handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        package = top / "path" / "soaked"
        package.mkdir(parents=True)
        (package / "__init__.py").touch()
        (package / "pkgdata.toml").write_text(
            f'[package]\ndataurl = ["http://127.0.0.1:{self.server.server_address[1]}/"]\n'
        )
        lines = [
            f"{name} sha256:{hashlib.sha256(content).hexdigest()}\n"
            for name, content in self.files.items()
        ]
        (package / "registry.txt").write_text("".join(lines))
        self._made = 0

    def environment(self, cache: Path) -> dict[str, str]:
        """Return the environment of a command."""
        kept = {key: text for key, text in os.environ.items() if not key.startswith("PKGDATA_")}
        root = str(Path(__file__).resolve().parent.parent)
        path = os.pathsep.join([str(self.top / "path"), root])
        home, temporary = str(self.top / "home"), str(self.temporary)
        ours = {"PYTHONPATH": path, "PKGDATA_CACHE_DIR": str(cache)}
        return {**kept, **ours, "HOME": home, "TMPDIR": temporary}

    def fresh(self) -> Path:
        """Return a new empty folder."""
        self._made += 1
        found = self.top / f"trial{self._made}"
        found.mkdir()
        return found


def start(house: House, cache: Path, words: list[str]) -> subprocess.Popen[bytes]:
    """Start a command in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "pkgdata", *words],
        env=house.environment(cache),
        cwd=house.top,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def finish(process: subprocess.Popen[bytes], count: Count, what: str) -> bool:
    """Wait for a command that must end well."""
    try:
        _, said = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        _kill(process)
        count.hung += 1
        count.notes.append(f"{what}: no end in {PATIENCE:.0f} s")
        return False
    if process.returncode:
        count.wrong += 1
        lines = said.decode(errors="replace").strip().splitlines() or [""]
        count.notes.append(f"{what}: exit code {process.returncode}: {lines[-1][:200]}")
    return not process.returncode


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


# -- kills -----------------------------------------------------------------------------------------


def verbs(house: House, trial: Path) -> dict[str, Verb]:
    """Return the commands, each with new places."""
    there, cache = trial / "there", trial / "cache"
    small = {name: house.files[name] for name in list(house.files)[:SMALL]}

    objects = {hashlib.sha256(content).hexdigest(): content for content in house.files.values()}
    from_site, to = str(house.site), str(there)
    return {
        "fetch": Verb(["fetch", "soaked"], cache, objects),
        "fetch --to": Verb(["fetch", "soaked", "--to", to], there / "soaked", house.files),
        "get": Verb(
            ["get", "soaked", list(house.files)[-1]],
            cache,
            dict([list(objects.items())[-1]]),
        ),
        "cp": Verb(["cp", "-r", f"{from_site}/", f"{to}/"], there, house.files),
        "cp -p 2": Verb(["cp", "-r", "-p", "2", f"{from_site}/", f"{to}/"], there, house.files),
        "sync": Verb(["sync", "--delete", from_site, to], there, house.files),
        "mv": Verb(["mv", "-r", f"{trial}/own/", f"{to}/"], there, small),
        "publish": Verb(["publish", f"{trial}/own", "--to", f"file:{to}"], there, small),
        "dataset push": Verb(
            ["dataset", "push", "own", "--home", f"{trial}/home", "--repo", to, "-f"],
            there,
            {},
        ),
    }


def one_kill(house: House, name: str, longest: dict[str, float], count: Count) -> None:
    """Start a command, kill it some time later, run it again, and look at what is there."""
    trial = house.fresh()
    verb = verbs(house, trial)[name]
    if f"{trial}/own" in " ".join(verb.words):
        _fill(trial / "own", verb.expected)
    if name == "dataset push":
        _fill(trial / "home" / "own", {f"data/train/{n}": c for n, c in _few(house).items()})
    kills = 1 if name not in longest else house.random.choice([1, 1, 2, 4])
    for _ in range(kills):
        began = time.monotonic()
        process = start(house, trial / "cache", verb.words)
        try:
            process.wait(house.random.uniform(0.25, 1.02) * longest.get(name, 0.8))
        except subprocess.TimeoutExpired:
            _kill(process)
        else:
            process.communicate()
            longest[name] = time.monotonic() - began
    began = time.monotonic()
    count.tried += 1
    if not finish(start(house, trial / "cache", verb.words), count, name):
        return
    longest[name] = max(longest.get(name, 0.0), time.monotonic() - began)
    _look(verb, name, trial, count)
    if left := os.listdir(house.temporary):
        count.litter += len(left)
        count.notes.append(f"{name}: left {left[:2]} in TMPDIR")
    subprocess.run(["rm", "-rf", str(trial)], check=True)


def _few(house: House) -> dict[str, bytes]:
    return {name: house.files[name] for name in list(house.files)[:40]}


def _fill(folder: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def _look(verb: Verb, name: str, trial: Path, count: Count) -> None:
    """Compare what a command left with what must be there."""
    found = {
        path.relative_to(verb.folder).as_posix(): path
        for path in verb.folder.rglob("*")
        if path.is_file()
    }
    if verb.folder.name == "cache":
        here = {p.parent.parent.name + p.parent.name: p for p in found.values()}
        good = all(k in here and here[k].read_bytes() == c for k, c in verb.expected.items())
        extra = [n for n in found if n.startswith(("partial-v1/", "locks-v1/"))]
    else:
        good = all(n in found and found[n].read_bytes() == c for n, c in verb.expected.items())
        extra = [n for n in found if n not in verb.expected] if verb.expected else _leftovers(found)
    if not good:
        count.wrong += 1
        count.notes.append(f"{name}: wrong bytes or a file is missing in {trial}")
    if extra:
        count.litter += len(extra)
        count.notes.append(f"{name}: left {sorted(extra)[:2]}")


def _leftovers(found: dict[str, Path]) -> list[str]:
    return [name for name in found if ".tmp" in name or name.endswith((".part", ".lock"))]


# -- a crowd, and prune next to readers ------------------------------------------------------------


def crowd(house: House, size: int, count: Count) -> None:
    """Let many processes fetch the same files into one empty cache."""
    cache = house.fresh() / "cache"
    before, sent = time.monotonic(), len(asked)
    started = [start(house, cache, ["fetch", "soaked"]) for _ in range(size)]
    for process in started:
        count.tried += 1
        finish(process, count, "crowd")
    objects = {hashlib.sha256(content).hexdigest(): content for content in house.files.values()}
    _look(Verb([], cache, objects), "crowd", cache, count)
    sent, took = len(asked) - sent, time.monotonic() - before
    count.notes.append(
        f"crowd: {size} processes, {sent} requests for {len(house.files)} files, {took:.1f} s"
    )
    if sent > 1.2 * len(house.files):
        count.wrong += 1


READER = """
import hashlib
from pkgdata.core.declaration import find_package
data = find_package("soaked")
wrong = 0
for name in list(data.registry) * 2:
    with open(data.get(name), "rb") as file:
        wrong += hashlib.sha256(file.read()).hexdigest() != data.registry[name].digest.hex
raise SystemExit(min(wrong, 1) * 7)
"""


def pruning(house: House, count: Count) -> None:
    """Remove everything again and again while others read."""
    cache = house.fresh() / "cache"
    env = house.environment(cache)
    readers = [
        subprocess.Popen([sys.executable, "-c", READER], env=env, stderr=subprocess.PIPE)
        for _ in range(3)
    ]
    while any(reader.poll() is None for reader in readers):
        finish(start(house, cache, ["cache", "prune", "--older-than", "0"]), count, "prune")
        count.tried += 1
    for reader in readers:
        said = reader.communicate()[1].decode(errors="replace").strip()
        if reader.returncode:
            count.wrong += 1
            count.notes.append(
                f"prune: a reader failed: {said.splitlines()[-1][:200] if said else ''}"
            )


def main() -> int:
    """Run until the time is over; print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--crowd", type=int, default=40, help="processes at once")
    parser.add_argument("--verb", help="only this one")
    args = parser.parse_args()
    counts: dict[str, Count] = {}
    longest: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="soak-") as top:
        house = House(Path(top), args.seed)
        end = time.monotonic() + args.seconds
        if args.verb is None:
            crowd(house, args.crowd, counts.setdefault(f"crowd of {args.crowd}", Count()))
            pruning(house, counts.setdefault("prune next to readers", Count()))
        names = [args.verb] if args.verb else list(verbs(house, house.fresh()))
        while True:
            for name in names:
                one_kill(house, name, longest, counts.setdefault(f"kill {name}", Count()))
            if time.monotonic() > end:
                break
        house.server.shutdown()
    print(f"| trial (seed {args.seed}) | tried | wrong | hung | litter |")
    print("| --- | --: | --: | --: | --: |")
    for name, count in counts.items():
        print(f"| {name} | {count.tried} | {count.wrong} | {count.hung} | {count.litter} |")
    for count in counts.values():
        for note in list(dict.fromkeys(count.notes))[:5]:
            print(f"  {note}")
    return int(any(count.wrong + count.hung + count.litter for count in counts.values()))


if __name__ == "__main__":
    sys.exit(main())
