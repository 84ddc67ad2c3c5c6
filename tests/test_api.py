"""What is public resolves, and all of it is documented in numpydoc's form."""

from __future__ import annotations

import ast
import dataclasses
import importlib
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


def documented(doc, section="Parameters"):
    """Return the names in a section of a docstring."""
    head = rf"^{section}\n-+\n"
    match = re.search(head + r"(.*?)(?=^\w[\w ]*\n-{3,}$|\Z)", doc, re.M | re.S)
    if match is None:
        return []
    heads = re.findall(r"^(\S[^:\n]*?)(?: :.*)?$", match[1], re.M)
    return [name.strip() for head in heads for name in head.split(",")]


#: Modules whose ``__all__`` is public.
PUBLIC = [
    "pkgdata",
    "pkgdata.catalog",
    "pkgdata.compat.cloudfiles",
    "pkgdata.compat.etcetera",
    "pkgdata.compat.pooch",
    "pkgdata.datasets",
    "pkgdata.publish",
    "pkgdata.stores",
    "pkgdata.testing",
]


def is_ours(value):
    return str(getattr(value, "__module__", "")).startswith("pkgdata")


def methods(cls):
    """Yield the public methods of a class that are ours and take no docstring from a base."""
    for one in inspect.classify_class_attrs(cls):
        if one.name.startswith("_") or one.kind not in ("method", "class method", "static method"):
            continue
        function = getattr(cls, one.name, None)
        overrides = any(
            getattr(getattr(base, one.name, None), "__doc__", None)
            for base in one.defining_class.__mro__[1:]
        )
        if is_ours(one.defining_class) and is_ours(function) and not overrides:
            yield one.name, function


def public_names():
    """Yield each public function, class and method with its name: what wants full numpydoc."""
    seen = set()
    for module in PUBLIC:
        home = importlib.import_module(module)
        for name in home.__all__:
            value = getattr(home, name)
            if not callable(value) or not is_ours(value) or id(value) in seen:
                continue
            seen.add(id(value))
            yield pytest.param(value, id=f"{module}.{name}")
            if isinstance(value, type):
                for method, function in methods(value):
                    yield pytest.param(function, id=f"{module}.{name}.{method}")


def written_parameters(value):
    """Return the parameters of a callable, as numpydoc writes them."""
    stars = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    found = inspect.signature(value).parameters.values()
    names = [stars.get(one.kind, "") + one.name for one in found]
    return names[1:] if names[:1] == ["self"] else names


def is_inherited(node, cls):
    """Return True if a method takes its docstring from the class that it overrides it of."""
    return any(getattr(getattr(base, node.name, None), "__doc__", None) for base in cls.__mro__[1:])


each_file = pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))


@each_file
def test_every_module_has_a_docstring(path):
    doc = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    assert doc
    assert doc.splitlines()[0].endswith((".", ":", "?", "!"))


@each_file
def test_every_definition_has_a_sentence(path):
    module = ".".join(path.relative_to(ROOT.parent).with_suffix("").parts)
    for name, node in public(ast.parse(path.read_text(encoding="utf-8")).body):
        doc = ast.get_docstring(node)
        if doc is None and "." in name:
            value = importlib.import_module(module.removesuffix(".__init__"))
            for part in name.split(".")[:-1]:
                value = getattr(value, part)
            assert is_inherited(node, value), f"{name} has no docstring, and overrides none"
            continue
        assert doc, f"{name} has no docstring"
        summary = doc.splitlines()[0]
        assert summary.endswith((".", "?", ":")), f"{name}: the summary is one sentence"


@pytest.mark.parametrize("value", list(public_names()))
def test_every_public_name_is_described_in_full(value):
    doc = inspect.getdoc(value)
    assert doc
    if value.__name__ in DESCRIBED_ELSEWHERE:
        assert DESCRIBED_ELSEWHERE[value.__name__] in doc
        return
    if re.search(r"\b[Ss]ee `\w+`\.$", doc.splitlines()[0]):
        return  # all but the unit or the form is described there
    if not isinstance(value, type):
        assert sorted(documented(doc)) == sorted(written_parameters(value))
    elif dataclasses.is_dataclass(value):
        fields = [field.name for field in dataclasses.fields(value)]
        assert fields in (documented(doc, "Attributes"), documented(doc))
    elif "__init__" in vars(value) and not issubclass(value, (Exception, Warning)):
        assert documented(doc) == written_parameters(value.__init__)


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
