"""Packages with repositories of definitions, for tests of catalogs."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
import tarfile
import textwrap
import zipfile
from pathlib import Path

import pkgdata
from pkgdata import catalog

HEAD = "from pkgdata.catalog import *\nimport dataclasses\nfrom pathlib import Path\n"


class Plugins:
    """A folder on the module search path, into which packages with repositories are written."""

    def __init__(self, root):
        self.lib = root / "lib"
        self.lib.mkdir()
        self.count = 0
        #: The folder of the last package.
        self.package = None

    def add(self, modules, *, name="image", package=None, group="pkgdata.repositories", init=""):
        self.count += 1
        package = package or f"plug{os.getpid()}_{self.lib.parent.name}_{self.count}"
        package = "".join(c if c.isalnum() else "_" for c in package)
        folder = self.package = self.lib / package
        folder.mkdir()
        (folder / "__init__.py").write_text(init or f'"""Things of {name}."""\n')
        for file, text in modules.items():
            self.write(package, file, text)
        info = self.lib / f"{package}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        value = f"{package}:Repo" if "class Repo" in init else package
        (info / "entry_points.txt").write_text(f"[{group}]\n{name} = {value}\n")
        return package

    def write(self, package, file, text):
        path = self.lib / package / "config" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(HEAD + textwrap.dedent(text))
        return path


def sha(content):
    return hashlib.sha256(content).hexdigest()


def paths_below(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if not p.is_dir())


def one(plugins, text, **options):
    """Return a catalog with one definition file, com/example.py."""
    plugins.add({"com/example.py": text}, **options)
    return catalog.Catalog()


def run(plugins, *words, env=None, check=True, stdin=subprocess.DEVNULL):
    """Run the command line as a process of its own."""
    root = str(Path(pkgdata.__file__).parent.parent)
    path = os.pathsep.join([str(plugins.lib), root])
    return subprocess.run(
        [sys.executable, "-m", "pkgdata", "catalog", *map(str, words)],
        env={**os.environ, "PYTHONPATH": path, "NO_PROXY": "127.0.0.1", **(env or {})},
        capture_output=True,
        text=True,
        stdin=stdin,
        timeout=120,
        check=check,
    )


def tar(files, mode="w:gz"):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def zipped(files):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()
