"""``config``."""

from __future__ import annotations

from ..base import config
from ..base import text as _text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from typing import Any


def add(commands: Any) -> None:
    """Add this command to the parser."""
    parser = commands.add_parser("config", help="show each setting and where it comes from")
    parser.add_argument("name", nargs="?", metavar="SETTING", help="print this one's value alone")
    parser.add_argument("--json", action="store_true", help="for scripts")
    parser.set_defaults(run=_config)


def _config(args: Namespace) -> int:
    names = [args.name] if args.name else list(config.FIELDS)
    found = {name: _value(name) for name in names}
    if args.json:
        _text.json(
            {name: {"value": value, "from": where} for name, (value, where) in found.items()}
        )
    elif args.name:
        print(_shown(found[args.name][0]))
    else:
        rows = [[name, _shown(value), where] for name, (value, where) in found.items()]
        _text.table(["SETTING", "VALUE", "FROM"], rows)
    return 0


def _value(name: str) -> tuple[Any, str]:
    if name not in config.FIELDS:
        raise config.unknown_key(name, config.FIELDS, "pkgdata config")
    return config.cache_dir() if name == "cache_dir" else config.resolve(name)


def _shown(value: Any) -> str:
    import os

    from ..base.urls import redact

    if isinstance(value, dict):
        return " ".join(f"{redact(key)}={redact(text)}" for key, text in value.items()) or "-"
    if isinstance(value, tuple):
        return os.pathsep.join(value) or "-"
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
