"""A package, its files, and checks for the tests of lookup."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

import pkgdata

NAME = "maps/dust map.txt"
CONTENT = b"the right bytes of the map"
FILES = {NAME: CONTENT, "maps/gas.txt": b"gas", "top.txt": b"top"}
DIGEST = hashlib.sha256(CONTENT).hexdigest()

posix = pytest.mark.skipif(os.name == "nt", reason="permission bits are a POSIX matter")


def put(root, name=NAME, content=CONTENT):
    path = Path(root, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def registry_text():
    return "".join(
        f"#: size={len(content)}\n'{name}' {hashlib.sha256(content).hexdigest()}\n"
        for name, content in FILES.items()
    )


def snapshot(root):
    """Return what the file system tells of everything below a folder, access times left out."""
    found = {}
    for folder, names, files in os.walk(root):
        for name in [".", *names, *files]:
            path = os.path.normpath(os.path.join(folder, name))
            info = os.lstat(path)
            facts = (info.st_mtime_ns, info.st_ctime_ns, info.st_ino, info.st_size, info.st_mode)
            found[path] = facts
    return found


def fill_cache(project, root):
    """Put the object into a cache, as another user's run would have done."""
    return pkgdata.declare("lookpkg", cache_dir=str(root)).get(NAME)


def child(code, *args, check=True, **variables):
    """Run code in a fresh process; an option that is None takes a variable away."""
    env = {**os.environ, "PYTHONPATH": str(Path(pkgdata.__file__).parent.parent)}
    for key, value in variables.items():
        env.pop(key, None)
        if value is not None:
            env[key] = str(value)
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, args)],
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0 or not check, done.stderr
    return done


#: Makes permission bits count for root too: without its capabilities root is an ordinary user. A
#: change of user would not do, since pytest keeps its folders for their owner alone.
ORDINARY = """
import os
if os.geteuid() == 0:
    import ctypes
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3, this process
    if ctypes.CDLL(None).capset(header, (ctypes.c_uint32 * 6)()) != 0:
        raise SystemExit("cannot give up root's capabilities")
"""

may_drop = pytest.mark.skipif(
    os.name == "nt" or (os.geteuid() == 0 and not sys.platform.startswith("linux")),
    reason="as root, permissions are only real where Linux capabilities can be given up",
)


def freeze(root):
    """Make a tree read-only."""
    for folder, _, files in os.walk(root):
        for name in files:
            os.chmod(os.path.join(folder, name), 0o444)
        os.chmod(folder, 0o555)
