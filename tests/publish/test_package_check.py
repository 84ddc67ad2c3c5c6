"""``pkgdata init`` and ``check`` with real builds: a wheel has its pkgdata.toml and registry."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from publishing import environment, make, sha

import pkgdata
from pkgdata import cli
from pkgdata.errors import UnknownNameError

REGISTRY = f"stars.csv {sha(b'stars')}\n".encode()

BACKENDS = {
    "setuptools": ("setuptools.build_meta", ""),
    "setuptools and setup.cfg": ("setuptools.build_meta", ""),
    "hatchling": (
        "hatchling.build",
        '[tool.hatch.build.targets.wheel]\npackages = ["src/mypkg"]\n',
    ),
    "flit_core": ("flit_core.buildapi", ""),
    "pdm": ("pdm.backend", ""),
    "poetry": (
        "poetry.core.masonry.api",
        '[tool.poetry]\npackages = [{include = "mypkg", from = "src"}]\n',
    ),
}

SETUP_CFG = """[metadata]
name = my-dist
version = 1.0
[options]
packages = find:
package_dir =
    = src
[options.packages.find]
where = src
"""


def pyproject(backend: str, more: str = "") -> str:
    module = backend.split(".")[0]
    # flit names the package like the distribution
    return f"""[build-system]
requires = ["{module}"]
build-backend = "{backend}"
[project]
name = "{"mypkg" if module == "flit_core" else "my-dist"}"
version = "1.0"
description = "x"
{more}"""


def project(folder: Path, kind: str, filled: bool = True) -> Path:
    backend, more = BACKENDS[kind]
    for module in ("build", backend.split(".")[0], backend):
        pytest.importorskip(module, reason="builds wheels")
    if kind.startswith("setuptools") and importlib.util.find_spec("wheel") is None:
        pytest.importorskip("setuptools.command.bdist_wheel", reason="setuptools needs wheel")
    make(
        folder, {"src/mypkg/__init__.py": b"", "pyproject.toml": pyproject(backend, more).encode()}
    )
    if kind == "setuptools and setup.cfg":
        make(folder, {"setup.cfg": SETUP_CFG.encode()})
        text = pyproject(backend).partition("[project]")[0]
        make(folder, {"pyproject.toml": text.encode()})
    if filled:
        make(folder, {"src/mypkg/registry.txt": REGISTRY})
    return folder


def init(folder: Path, capsys) -> str:
    """Run ``init``, paste what it prints where it says, and return that."""
    words = ["--no-workflow", "--to", "github:me/mypkg@v{version}"]
    assert cli.main(["init", str(folder / "src" / "mypkg"), *words]) == 0
    said = capsys.readouterr().out
    target = None
    for line in said.splitlines():
        if line.startswith("for "):
            name = line.removeprefix("for ").partition(",")[0].rstrip(":")
            target = folder / name if name.startswith(("pyproject", "setup")) else None
        elif target is not None and not line.startswith(("hatch", "flit", "pdm", "poetry")):
            target.write_text(target.read_text() + line + "\n" if target.exists() else line + "\n")
    return said


def build(folder: Path, *kinds: str) -> list[Path]:
    done = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--skip-dependency-check", *kinds, "."],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env=environment(),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return sorted((folder / "dist").iterdir())


def check(capsys, *targets: object) -> tuple[int, dict[str, str]]:
    code = cli.main(["check", *map(str, targets), "--json"])
    return code, {row["what"]: row["state"] for row in json.loads(capsys.readouterr().out)}


GOOD = {"pkgdata.toml": "ok", "registry.txt: 1 name": "ok"}


@pytest.mark.slow
@pytest.mark.parametrize("kind", BACKENDS)
def test_what_init_prints_makes_a_complete_wheel(tmp_path, capsys, kind):
    folder = project(tmp_path, kind)
    init(folder, capsys)
    sdist, wheel = sorted(build(folder, "--sdist", "--wheel"), key=lambda path: path.suffix)
    assert check(capsys, wheel) == (0, GOOD)
    assert check(capsys, sdist) == (0, GOOD)
    assert check(capsys, folder) == (0, GOOD)


@pytest.mark.slow
def test_an_editable_install_of_another_name_knows_its_version(tmp_path, capsys):
    pytest.importorskip("editables", reason="hatchling needs it for a src layout")
    folder = project(tmp_path / "checkout", "hatchling")
    init(folder, capsys)
    code = "import hatchling.build as h; print(h.build_editable('.'))"
    words = {"cwd": folder, "capture_output": True, "text": True, "check": True}
    made = subprocess.run([sys.executable, "-c", code], **words).stdout.strip()
    shutil.unpack_archive(folder / made, tmp_path / "site", "zip")
    code = f"import site; site.addsitedir({str(tmp_path / 'site')!r})"
    code += "; import pkgdata; print(pkgdata.declare('mypkg').version)"
    done = subprocess.run([sys.executable, "-c", code], env=environment(), **words)
    assert done.stdout == "1.0\n"


@pytest.mark.slow
def test_a_wheel_of_setuptools_without_the_lines_lacks_both(tmp_path, capsys):
    entry = '[project.entry-points."pkgdata.packages"]\nmypkg = "mypkg"\n'
    folder = project(tmp_path, "setuptools")
    make(folder, {"pyproject.toml": pyproject("setuptools.build_meta", entry).encode()})
    assert cli.main(["init", str(folder / "src/mypkg"), "--no-workflow"]) == 0
    said = capsys.readouterr().out
    assert "[project.entry-points" not in said, "it is there"
    assert '[tool.setuptools.package-data]\nmypkg = ["pkgdata.toml", "registry.txt"]' in said
    (wheel,) = build(folder, "--wheel")
    assert cli.main(["check", str(wheel)]) == 3
    said = capsys.readouterr()
    assert said.out.splitlines()[1:] == [
        "missing  mypkg    pkgdata.toml",
        "missing  mypkg    registry.txt",
    ]
    assert "'pkgdata init FOLDER' prints what the build needs" in said.err


@pytest.mark.parametrize(
    ("backend", "said"),
    [
        (
            "mesonpy",
            "py.install_sources('pkgdata.toml', 'registry.txt', '_data.py', subdir: 'mypkg')",
        ),
        ("scikit_build_core.build", "scikit_build_core puts both files into the wheel"),
        ("maturin", "maturin puts both files into the wheel"),
        ("uv_build", "uv_build puts both files into the wheel"),
        ("my_backend:build", "make sure that my_backend:build puts these files of mypkg"),
    ],
)
def test_other_backends_are_named(tmp_path, capsys, backend, said):
    make(tmp_path, {"src/mypkg/__init__.py": b"", "pyproject.toml": pyproject(backend).encode()})
    assert said in init(tmp_path, capsys)


def test_lines_that_are_there_are_not_asked_for(tmp_path, capsys):
    more = (
        '[project.entry-points."pkgdata.packages"]\nmypkg = "mypkg"\n'
        '[tool.setuptools.package-data]\n"*" = ["*.toml", "*.txt"]\n'
    )
    text = pyproject("setuptools.build_meta", more).encode()
    make(tmp_path, {"src/mypkg/__init__.py": b"", "pyproject.toml": text})
    assert init(tmp_path, capsys).splitlines() == [
        f"for {tmp_path}/src/mypkg/__init__.py:",
        "from mypkg._data import get_data",
        "pyproject.toml puts both files into the wheel",
    ]


URL = b"dataurl = 'https://example.org/'\n"
TOML = b"[package]\nname = 'mypkg'\n" + URL

FOLDERS = {
    "no digest": ({"registry.txt": b"", "pkgdata.toml": TOML}, {"registry.txt: 0 names": "empty"}),
    "name": (
        {"registry.txt": REGISTRY, "pkgdata.toml": b"[package]\nname = 'other'\n" + URL},
        {"pkgdata.toml has the name 'other'": "wrong"},
    ),
    "registry": ({"pkgdata.toml": TOML}, {"registry.txt": "missing"}),
    "another registry": (
        {"registry.txt": REGISTRY, "pkgdata.toml": TOML + b"registry = 'files.txt'\n"},
        {"files.txt": "missing"},
    ),
    "toml": ({"registry.txt": REGISTRY}, {"pkgdata.toml": "missing"}),
}


@pytest.mark.parametrize("case", FOLDERS)
def test_what_a_package_lacks_is_named(tmp_path, capsys, case):
    files, expected = FOLDERS[case]
    make(tmp_path / "mypkg", {"__init__.py": b"", **files})
    code, found = check(capsys, tmp_path / "mypkg")
    assert code == 3
    assert {what: state for what, state in found.items() if state != "ok"} == expected


def test_what_is_malformed_is_named(tmp_path, capsys):
    make(tmp_path / "mypkg", {"pkgdata.toml": b"[package\n", "registry.txt": b"x\n"})
    assert check(capsys, tmp_path / "mypkg")[0] == 3
    make(tmp_path / "mypkg", {"pkgdata.toml": TOML})
    code, found = check(capsys, tmp_path / "mypkg")
    assert code == 3
    assert [state for what, state in found.items() if "registry.txt, line 1: expected" in what] == [
        "wrong"
    ]


def test_nothing_to_check(tmp_path, capsys):
    assert cli.main(["check", "nosuch"]) == 1
    assert "'nosuch' is no installed package, wheel, sdist or folder" in capsys.readouterr().err
    assert cli.main(["check", f"{tmp_path}/nosuch"]) == 1
    (tmp_path / "x.whl").write_bytes(b"no zip")
    assert cli.main(["check", str(tmp_path / "x.whl")]) == 1
    make(tmp_path / "empty", {"README": b""})
    code, found = check(capsys, tmp_path / "empty")
    assert code == 3
    assert [*found.values()] == ["missing"]


def test_an_installed_package_without_its_toml_says_so(tmp_path, monkeypatch, capsys):
    make(
        tmp_path,
        {
            "barepkg/__init__.py": b"",
            "bare_dist-1.0.dist-info/METADATA": b"Name: bare-dist\nVersion: 1.0\n",
            "bare_dist-1.0.dist-info/entry_points.txt": b"[pkgdata.packages]\nbarepkg = barepkg\n",
        },
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert check(capsys, "barepkg") == (3, {"pkgdata.toml": "missing", "registry.txt": "missing"})
    assert cli.main(["get", "barepkg", "stars.csv"]) == 1
    assert f"barepkg has no pkgdata.toml in {tmp_path}/barepkg" in capsys.readouterr().err
    assert cli.main(["list"]) == 0
    assert "broken: barepkg has no pkgdata.toml in" in capsys.readouterr().out
    with pytest.raises(UnknownNameError, match=r"no pkgdata\.toml or registry") as caught:
        pkgdata.declare("barepkg").get("stars.csv")
    assert "pkgdata check" in caught.value.hint


def test_the_name_of_a_module_is_no_package(tmp_path):
    with pytest.raises(UnknownNameError, match=r"mypkg\._data has none, and is no package"):
        pkgdata.declare("mypkg._data").get("stars.csv")


BOTH = f"a.txt {sha(b'a')}\nsub/b.txt {sha(b'b')}\n".encode()
ALONE = " is on this machine alone"
OUT_OF_REACH = {
    "none": ("", {}, "there is none to download 'a.txt' from"),
    "file": ("'file:///srv/web'", {}, f"file:///srv/web{ALONE}"),
    "path": ("['/srv/web', 'file:/b']", {}, f"/srv/web{ALONE}"),
    "not all inside": ("", {"data/a.txt": b"a"}, "there is none to download 'sub/b.txt' from"),
    "folder that is not shipped": ("'../web'", {}, f"[...]{ALONE}"),
    "all inside": ("", {"data/a.txt": b"a", "data/sub/b.txt": b"b"}, None),
    "a folder inside": ("'my'", {"my/a.txt": b"a", "data/sub/b.txt": b"b"}, None),
    "elsewhere too": ("['file:///srv/web', 'github:me/x@v1']", {}, None),
}


@pytest.mark.parametrize("case", OUT_OF_REACH)
def test_a_dataurl_that_others_cannot_reach_is_a_problem(tmp_path, capsys, case):
    url, files, why = OUT_OF_REACH[case]
    toml = "[package]\nname = 'mypkg'\n" + (f"dataurl = {url}\n" if url else "")
    names = {"pkgdata.toml": toml.encode(), "registry.txt": BOTH, **files}
    make(tmp_path / "mypkg", names)
    with zipfile.ZipFile(tmp_path / "mypkg-1.0-py3-none-any.whl", "w") as wheel:
        for name, content in names.items():
            wheel.writestr(f"mypkg/{name}", content)
    for target in (tmp_path / "mypkg", tmp_path / "mypkg-1.0-py3-none-any.whl"):
        code, found = check(capsys, target)
        wrong = [what for what, state in found.items() if state != "ok"]
        if why is None:
            assert (code, wrong) == (0, [])
            continue
        assert code == 3
        assert len(wrong) == 1
        assert wrong[0].startswith("dataurl: ")
        assert wrong[0].endswith(why.removeprefix("[...]"))
        assert cli.main(["check", str(target)]) == 3
        assert "write https://HOST/FOLDER there" in capsys.readouterr().err


def test_a_file_with_an_address_of_its_own_needs_no_dataurl(tmp_path, capsys):
    registry = f"a.txt {sha(b'a')} https://example.org/a.txt\n".encode()
    toml = b"[package]\nname = 'mypkg'\n"
    make(tmp_path / "mypkg", {"pkgdata.toml": toml, "registry.txt": registry})
    assert check(capsys, tmp_path / "mypkg")[0] == 0
