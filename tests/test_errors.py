"""The tree in the docstring of `pkgdata.errors` is the class tree, and errors cross processes."""

from __future__ import annotations

import copy
import pickle
import re
import warnings
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest

from pkgdata import errors

CLASSES = {
    name: value
    for name, value in vars(errors).items()
    if isinstance(value, type) and issubclass(value, (errors.PkgdataError, errors.PkgdataWarning))
}

#: One line of the drawing: branches, name, and what stands to its right.
LINE = re.compile(r"^  (?P<branch>[│├└─ ]*)(?P<name>[A-Z]\w+)(?: {2,}(?P<facts>.*))?$")


def drawing():
    """Yield (class name, name of its parent in the drawing, facts) of each line."""
    parents = []
    for line in errors.__doc__.splitlines():
        match = LINE.match(line)
        if not match:
            continue
        depth = len(match["branch"]) // 3
        del parents[depth:]
        yield match["name"], parents[-1] if parents else None, match["facts"] or ""
        parents.append(match["name"])


DRAWN = {name: (parent, facts) for name, parent, facts in drawing()}


def builtin_parents(facts):
    import builtins

    return [getattr(builtins, word) for word in re.findall(r"\b[A-Z]\w+(?:Error|Warning)\b", facts)]


def attributes(facts):
    return re.findall(r"\.([a-z]\w*)", facts)


def sample(name):
    """Return an error with a value for every attribute that the drawing shows for it."""
    parent, facts = DRAWN[name]
    names = []
    while parent is not None:
        names += attributes(facts)
        parent, facts = DRAWN[parent]
    return CLASSES[name]("what failed", hint="do this", **{key: f"its {key}" for key in names})


def test_the_drawing_has_every_class_and_no_other():
    assert set(DRAWN) == set(CLASSES)


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_parents_are_as_drawn(name):
    parent, facts = DRAWN[name]
    bases = [CLASSES[parent]] if parent else []
    bases += builtin_parents(facts)
    assert list(CLASSES[name].__bases__) == (bases or [Exception])


def test_the_drawing_shows_the_builtin_parents_that_users_catch():
    assert issubclass(errors.ObjectNotFoundError, FileNotFoundError)
    assert issubclass(errors.AccessDeniedError, PermissionError)
    assert issubclass(errors.UnknownNameError, (KeyError, ValueError))
    assert issubclass(errors.CacheLockTimeoutError, TimeoutError)
    assert issubclass(errors.IncompleteTransferError, ConnectionError)
    assert issubclass(errors.MissingExtraError, ImportError)
    assert issubclass(errors.FolderWarning, UserWarning)
    assert issubclass(errors.CacheDamaged, ValueError)


ERRORS = sorted(name for name, value in CLASSES.items() if issubclass(value, errors.PkgdataError))


@pytest.mark.parametrize("name", ERRORS)
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_every_error_survives_pickling(name, protocol):
    error = sample(name)
    back = pickle.loads(pickle.dumps(error, protocol))
    assert type(back) is type(error)
    assert vars(back) == vars(error)
    assert (str(back), back.args) == (str(error), error.args)


@pytest.mark.parametrize("name", ERRORS)
def test_every_error_can_be_copied(name):
    error = sample(name)
    assert vars(copy.copy(error)) == vars(error)


@pytest.mark.parametrize("name", ERRORS)
def test_the_message_is_shown_with_its_hint(name):
    error = sample(name)
    assert str(error) == "what failed\nHint: do this"
    assert error.args == ("what failed",)
    assert str(CLASSES[name]("what failed")) == "what failed"


def test_defaults_of_attributes_that_handlers_read():
    assert errors.PkgdataError("m").hint is None
    assert errors.RegistryError("m").line is None
    assert errors.StoreError("m").transient is False
    assert errors.IncompleteTransferError("m").transient is True
    assert errors.AllMirrorsFailedError("m").attempts == ()
    assert errors.CacheDamaged("m").bad_urls == errors.CacheDamaged("m").bad_files == []
    assert str(errors.CacheDamaged("one", "two")) == "one\ntwo"


def fail_in_a_pool(number):
    inner = errors.AccessDeniedError("refused", url="https://example.org/a", transient=False)
    raise errors.AllMirrorsFailedError(
        f"failed {number}", name="a", attempts=[("https://example.org/a", inner)]
    )


def test_an_error_with_errors_in_it_crosses_a_process_pool():
    with (
        ProcessPoolExecutor(1, get_context("spawn")) as pool,
        pytest.raises(errors.AllMirrorsFailedError, match="failed 7") as caught,
    ):
        pool.submit(fail_in_a_pool, 7).result()
    ((address, inner),) = caught.value.attempts
    assert address == "https://example.org/a"
    assert isinstance(inner, PermissionError)
    assert inner.url == address


@pytest.mark.parametrize("name", sorted(set(CLASSES) - set(ERRORS)))
def test_warnings_are_caught_as_user_warnings(name):
    with pytest.warns(UserWarning, match="be careful"):
        warnings.warn("be careful", CLASSES[name], stacklevel=1)


def test_hints_are_python_in_python_and_commands_on_the_command_line(capsys, tmp_path):
    from pkgdata import cli
    from pkgdata.core.declaration import find_package

    error = errors.CacheError("why", hint="force=True", command="--force")
    assert str(error) == "why\nHint: force=True"
    assert pickle.loads(pickle.dumps(error)).command == "--force"
    (tmp_path / "mypkg").mkdir()
    (tmp_path / "mypkg" / "pkgdata.toml").write_text("[package]\nname = 'mypkg'\n")
    (tmp_path / "mypkg" / "registry.txt").write_text(f"a.txt {'0' * 64}\n")
    data = find_package(str(tmp_path / "mypkg"))
    with pytest.raises(errors.ConfigError) as caught:
        data.get("a.txt")
    assert "pkgdata.declare()" in caught.value.hint
    assert cli.main(["get", str(tmp_path / "mypkg"), "a.txt"]) == 1
    assert "declare()" not in capsys.readouterr().err
