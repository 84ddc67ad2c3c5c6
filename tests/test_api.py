"""What is public resolves, and all of it is documented in numpydoc's form."""

from __future__ import annotations

import ast
import inspect
import pickle
import re
from pathlib import Path

import pytest

import pkgdata

ROOT = Path(pkgdata.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))

#: Whose parameters are described at the function that users call instead.
DESCRIBED_ELSEWHERE = {"PackageData": "pkgdata.declare"}


# -- names -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", pkgdata.__all__)
def test_every_public_name_resolves_and_is_documented(name):
    value = getattr(pkgdata, name)
    assert inspect.getdoc(value), f"pkgdata.{name} has no docstring"
    assert name in dir(pkgdata)
    assert getattr(pkgdata, name) is value


def test_a_star_import_gives_exactly_the_public_names():
    names = {}
    exec("from pkgdata import *", names)
    assert set(names) - {"__builtins__"} == set(pkgdata.__all__)
    assert len(pkgdata.__all__) == len(set(pkgdata.__all__))


def test_every_error_and_warning_is_public():
    from pkgdata import errors

    for name, value in vars(errors).items():
        if isinstance(value, type) and issubclass(value, (errors.PkgdataError, Warning)):
            assert getattr(pkgdata, name) is value


def test_astropys_names_are_public():
    for name in ("get_pkg_data_filename", "get_pkg_data_contents", "get_pkg_data_fileobj", "conf"):
        assert name in pkgdata.__all__


def test_a_name_that_does_not_exist():
    with pytest.raises(AttributeError, match="module 'pkgdata' has no attribute 'get_pkg_dta'"):
        _ = pkgdata.get_pkg_dta
    assert not hasattr(pkgdata, "__wrapped__")


def test_public_classes_know_their_module():
    for name in ("PackageData", "Registry", "Entry", "Digest", "Cache", "Report", "Event"):
        value = getattr(pkgdata, name)
        assert value.__module__.startswith("pkgdata.")
        assert pickle.loads(pickle.dumps(value)) is value


def test_the_version_is_one_of_pep_440():
    assert re.fullmatch(r"\d+\.\d+\.\d+((a|b|rc)\d+)?(\.dev\d+)?", pkgdata.__version__)


def test_the_package_is_marked_as_typed():
    assert (ROOT / "py.typed").is_file()


def test_type_checkers_see_what_is_loaded_on_first_use():
    tree = ast.parse((ROOT / "__init__.pyi").read_text())
    told = {
        (node.module or "", alias.asname)
        for node in tree.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.name == alias.asname  # else it is not passed on
    }
    homes = {**pkgdata._HOMES, **pkgdata._READ_BY_OTHERS}
    assert told == {
        *((home, name) for name, home in homes.items()),
        *(("", name) for name in pkgdata._MODULES),
        *(("pooch", name) for name in pkgdata._POOCH),
    }


# -- docstrings ------------------------------------------------------------------------------


def is_property(node):
    names = {ast.unparse(one) for one in getattr(node, "decorator_list", ())}
    return "property" in names or any(name.endswith(".setter") for name in names)


def public(body):
    """Yield the public definitions of a module or class body, each with its dotted name."""
    for node in body:
        if not isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        if node.name.startswith("_"):
            continue
        yield node.name, node
        if isinstance(node, ast.ClassDef):
            for name, child in public(node.body):
                yield f"{node.name}.{name}", child


def parameters(function, is_method):
    """Return the names of a function's parameters as numpydoc writes them."""
    args = function.args
    names = [arg.arg for arg in (*args.posonlyargs, *args.args)]
    static = "staticmethod" in {ast.unparse(one) for one in function.decorator_list}
    if is_method and not static:
        names = names[1:]
    names += [f"*{args.vararg.arg}"] if args.vararg else []
    names += [arg.arg for arg in args.kwonlyargs]
    names += [f"**{args.kwarg.arg}"] if args.kwarg else []
    return names


def constructor(node):
    return next(
        (one for one in node.body if isinstance(one, ast.FunctionDef) and one.name == "__init__"),
        None,
    )


def documented(doc):
    """Return the names in the section "Parameters" of a docstring."""
    match = re.search(r"^Parameters\n-{10}\n(.*?)(?=^\w[\w ]*\n-{3,}$|\Z)", doc, re.M | re.S)
    if match is None:
        return []
    heads = re.findall(r"^(\S[^:\n]*?)(?: :.*)?$", match[1], re.M)
    return [name.strip() for head in heads for name in head.split(",")]


def definitions():
    for path in FILES:
        module = ".".join(path.relative_to(ROOT.parent).with_suffix("").parts)
        if path.name.startswith("_") and path.name not in ("__init__.py", "_fs.py"):
            continue
        for name, node in public(ast.parse(path.read_text(encoding="utf-8")).body):
            yield pytest.param(name, node, id=f"{module}:{name}")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_module_has_a_docstring(path):
    doc = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    assert doc
    assert doc.splitlines()[0].endswith((".", ":", "?", "!"))


@pytest.mark.parametrize(("name", "node"), list(definitions()))
def test_every_public_definition_is_documented(name, node):
    doc = ast.get_docstring(node)
    assert doc, f"{name} has no docstring"
    assert doc.splitlines()[0].endswith((".", "?")), f"{name}: the summary is one sentence"
    function = constructor(node) if isinstance(node, ast.ClassDef) else node
    if function is None or is_property(node):
        return
    if name in DESCRIBED_ELSEWHERE:
        assert DESCRIBED_ELSEWHERE[name] in doc
        return
    expected = parameters(function, "." in name or isinstance(node, ast.ClassDef))
    assert documented(doc) == expected


def test_this_test_reads_sections_as_numpydoc_does():
    doc = (
        "Do it.\n\nParameters\n----------\na : int\n    Text: more.\nb, c : str\n*args\n    Rest.\n"
        "**kwargs\n\nReturns\n-------\nresult : int\n"
    )
    assert documented(doc) == ["a", "b", "c", "*args", "**kwargs"]
    assert documented("Do it.") == []


def test_declare_describes_what_a_package_data_object_takes():
    taken = set(inspect.signature(pkgdata.PackageData.__init__).parameters)
    assert set(inspect.signature(pkgdata.declare).parameters) - {"name"} <= taken
