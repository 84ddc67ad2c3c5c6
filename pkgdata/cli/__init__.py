"""The command line: parse, call one library function, print.

Data goes to standard output, everything else to standard error.

Exit codes: 0 done; 1 an error; 2 wrong usage; 3 a check found differences; 130 interrupted.
"""

from __future__ import annotations

import os
import sys

from .. import __version__
from ..errors import PkgdataError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence
    from typing import Any

OK, ERROR, USAGE, DIFFERS, INTERRUPTED = 0, 1, 2, 3, 130


def parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    import argparse

    from . import (
        cache,
        catalog,
        complete,
        copying,
        dataset,
        files,
        init,
        migrate,
        publish,
        registry,
        settings,
        stores,
        testing,
    )

    top = argparse.ArgumentParser(
        prog="pkgdata",
        description="Find, fetch and check the data files of Python packages.",
        epilog="exit codes: 0 done; 1 an error; 2 wrong usage; 3 a check found differences; "
        "130 interrupted",
    )
    top.add_argument("--version", action="version", version=f"pkgdata {__version__}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    known = (files, copying, stores, registry, publish, init, cache, migrate, settings, testing)
    for module in (*known, dataset, catalog, complete):
        module.add(commands)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, optional
        The process's own arguments by default.

    Returns
    -------
    int
        The exit code.
    """
    import warnings

    warnings.showwarning = _show_warning
    try:
        args = parser().parse_args(argv)
        code: int = args.run(args)
        sys.stdout.flush()
        return code
    except PkgdataError as error:
        return _fail(str(error))
    except KeyboardInterrupt:
        print("\npkgdata: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # whoever read our output has seen enough; the interpreter must not complain at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except OSError as error:
        return _fail(str(error))


def _fail(text: str) -> int:
    print(f"pkgdata: error: {text}", file=sys.stderr)
    return ERROR


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    print(f"pkgdata: warning: {message}", file=sys.stderr)
