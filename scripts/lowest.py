"""Print the lowest versions that pyproject.toml allows, as constraints for pip.

::

    python scripts/lowest.py >lowest.txt && pip install '.[test]' -c lowest.txt
"""

from __future__ import annotations

import sys
from pathlib import Path

from packaging.requirements import Requirement

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

#: The extras whose lowest versions are tested along with the dependencies.
EXTRAS = ("cloud", "compress", "test")


def main() -> None:
    """Print a line ``name==version`` for each requirement with a lower bound."""
    text = (Path(__file__).resolve().parent.parent / "pyproject.toml").read_text("utf-8")
    project = tomllib.loads(text)["project"]
    wanted = list(project["dependencies"])
    for extra in EXTRAS:
        wanted += project["optional-dependencies"][extra]
    for requirement in map(Requirement, wanted):
        if requirement.marker is None or requirement.marker.evaluate():
            for bound in requirement.specifier:
                if bound.operator == ">=":
                    print(f"{requirement.name}=={bound.version}")


if __name__ == "__main__":
    main()
