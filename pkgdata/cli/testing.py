"""``ci-key``."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from typing import Any


def add(commands: Any) -> None:
    """Add these commands to the parser."""
    key = commands.add_parser(
        "ci-key", help="print the key under which a CI service keeps the cache of some packages"
    )
    key.add_argument("packages", nargs="+", metavar="PKG", help="package, or path of its folder")
    key.set_defaults(run=_ci_key)


def _ci_key(args: Namespace) -> int:
    from ..testing import ci_key

    print(ci_key(*args.packages))
    return 0
