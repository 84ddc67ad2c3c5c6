"""``pkgdata init``: what it writes is right, and works together."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from publishing import environment, make, run

from pkgdata import cli
from pkgdata.core.declaration import find_package
from pkgdata.core.registry import Registry
from pkgdata.publish.plan import settings_of


@pytest.fixture
def package(tmp_path):
    make(tmp_path, {"pyproject.toml": b"", "src/mypkg/__init__.py": b""})
    return tmp_path / "src" / "mypkg"


def init(package, *words):
    assert cli.main(["init", str(package), *words]) == 0


@pytest.mark.parametrize(
    ("to", "dataurl"),
    [
        ("github:me/mypkg@v{version}", "github:me/mypkg@v{version}"),
        ("s3://bucket/{version}", "s3://bucket/{version}/"),
        ("pages:me/mypkg-data", "https://me.github.io/mypkg-data/"),
    ],
)
def test_where_to_publish_says_where_to_look(package, monkeypatch, to, dataurl):
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    init(package, "--to", to)
    assert find_package(str(package)).dataurl == (dataurl,)
    assert f'to = ["{to}"]' in (package / "pkgdata.toml").read_text()


def test_without_a_place_the_file_is_still_right(package):
    init(package)
    data = find_package(str(package))
    assert (data.name, data.dataurl, data.env) == ("mypkg", (), "MYPKG_DATA")
    assert len(data.registry) == 0
    assert settings_of(str(package)).to == []


def test_a_wrong_place_is_told_and_nothing_is_written(package, capsys):
    assert cli.main(["init", str(package), "--to", "nosuch:place"]) == 1
    assert "nothing is known of publishing to 'nosuch'" in capsys.readouterr().err
    assert not (package / "pkgdata.toml").exists()


def test_the_helper_finds_the_published_file(package, tmp_path):
    init(package, "--to", f"file:{tmp_path}/web", "--no-workflow")
    here = make(tmp_path / "data-files", {"a.txt": b"hello"})
    assert run(here, "--package", package).returncode == 0
    code = "from mypkg._data import get_data; print(open(get_data('a.txt')).read())"
    env = environment()
    env["PYTHONPATH"] = f"{package.parent}:{env['PYTHONPATH']}"
    done = subprocess.run(
        [sys.executable, "-W", "ignore::ResourceWarning", "-c", code],
        env=env,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "hello\n"
    text = (package / "registry.txt").read_text()
    assert text.startswith("# The data files of mypkg")
    assert list(Registry.parse(text)) == ["a.txt"]


def test_the_helper_is_the_function_of_the_tutorial(package):
    init(package, "--no-workflow")
    tutorial = Path(__file__).parents[2] / "docs" / "tutorials" / "author.md"
    lines = [line.strip() for line in tutorial.read_text("utf-8").splitlines()]
    (line,) = [line for line in lines if line.startswith("get_data = ")]
    line = line.replace("__name__", '"mypkg"')
    helper = (package / "_data.py").read_text()
    assert helper.endswith(f"\n\nimport pkgdata\n\n{line}\n")


def test_the_workflow_runs_commands_that_exist(package, tmp_path):
    init(package, "--data", "my-data")
    text = (tmp_path / ".github" / "workflows" / "data.yml").read_text()
    commands = [
        shlex.split(line) for line in re.findall(r"(pkgdata (?:ch|reg|pub)[^'\n]*$)", text, re.M)
    ]
    built, check, publish, elsewhere, weekly = [
        cli.parser().parse_args(words[1:]) for words in commands
    ]
    assert built.targets == ["mypkg"]
    assert (check.folder, check.registry) == ("my-data", "./src/mypkg/registry.txt")
    assert (publish.folder, publish.package, publish.check) == ("my-data", "./src/mypkg", False)
    for proof in (elsewhere, weekly):
        assert (proof.folder, proof.package, proof.check) == (None, "./src/mypkg", True)
    # a step for data in git, and one for data that are not
    assert re.findall(r"hashFiles\('my-data/\*\*'\) (..) ''", text) == ["!=", "=="]
    assert "${{ github.token }}" in text
    assert "{package}" not in text
    assert re.search(r'tags: \["v\*"\]', text)
    assert "schedule:" in text


def test_the_workflow_is_yaml(package, tmp_path):
    yaml = pytest.importorskip("yaml", reason="reads the workflow")
    init(package)
    found = yaml.safe_load((tmp_path / ".github" / "workflows" / "data.yml").read_text())
    assert set(found["jobs"]) == {"publish", "check"}
    assert found["jobs"]["publish"]["permissions"] == {"contents": "write"}


def test_a_folder_without_a_project_gets_the_workflow_beside_it(tmp_path):
    make(tmp_path / "deep" / "mypkg", {"__init__.py": b""})
    init(tmp_path / "deep" / "mypkg")
    assert (tmp_path / "deep" / ".github" / "workflows" / "data.yml").exists()


@pytest.mark.parametrize("name", ["not-a-name", "nosuch"])
def test_no_package(tmp_path, capsys, name):
    make(tmp_path / "not-a-name", {"x": b""})
    assert cli.main(["init", str(tmp_path / name)]) == 1
    assert "is not the folder of a package" in capsys.readouterr().err


@pytest.mark.parametrize("folder", [".", "src"])
def test_the_folder_of_a_project_is_no_package(package, folder, capsys):
    project = package.parent.parent
    before = sorted(project.rglob("*"))
    assert cli.main(["init", str(project / folder)]) == 1
    said = capsys.readouterr().err
    assert "the folder of a project, not of a package" in said
    assert "mypkg" in said
    assert sorted(project.rglob("*")) == before
