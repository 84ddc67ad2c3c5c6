"""The command line: parse, call one library function, print.

Data goes to standard output, everything else to standard error.

Exit codes: 0 done; 1 an error; 2 wrong usage; 3 a check found differences; 130 interrupted, 143 by
SIGTERM.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import signal
import sys
import threading
import warnings

from .. import __version__
from ..base import text
from ..errors import PkgdataError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any, NoReturn

#: The commands of each module, in the order of the help. Only the module of the command that runs
#: is loaded, so that no command waits for the imports of another one.
MODULES = {
    "files": ("get", "where", "fetch", "list", "verify"),
    "demo": ("demo",),
    "copying": ("cp", "mv", "sync"),
    "stores": ("ls", "du", "rm", "cat", "head", "touch"),
    "publish": ("registry", "publish"),
    "setup": ("init", "check", "completion", "complete-words"),
    "cache": ("cache", "migrate", "config", "ci-key"),
    "dataset": ("dataset",),
    "catalog": ("catalog",),
}


def parser(command: str | None = None) -> argparse.ArgumentParser:
    """Return the parser of one command, or of all if it is none of them."""
    top = argparse.ArgumentParser(
        prog="pkgdata",
        description="Find, fetch and check the data files of Python packages.",
        epilog="exit codes: 0 done; 1 an error; 2 wrong usage; 3 a check found differences; "
        "130 interrupted",
    )
    top.add_argument("--version", action="version", version=f"pkgdata {__version__}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    if command != "--version":
        wanted = [name for name, verbs in MODULES.items() if command in verbs]
        for name in wanted or MODULES:
            importlib.import_module(f"{__name__}.{name}").add(commands)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line, by default of this process; return the exit code."""
    text.open_streams()
    warnings.showwarning = _show_warning
    words = sys.argv[1:] if argv is None else [*argv]
    try:
        args = parser(words[0] if words else None).parse_args(words)
        with _interruptible():
            code: int = args.run(args) or 0
        sys.stdout.flush()
        return code
    except PkgdataError as error:
        return _fail(str(error))
    except KeyboardInterrupt as error:
        text.note("\npkgdata: interrupted")
        return 128 + (error.args[0] if error.args else signal.SIGINT)
    except BrokenPipeError:
        return 0  # the reader of our output has seen enough
    except UnicodeEncodeError as error:
        return _fail(
            f"the encoding of this locale, {error.encoding}, has no name for {error.object!r}\n"
            "Hint: set LC_ALL=C.UTF-8, or PYTHONUTF8=1"
        )
    except OSError as error:
        return _fail(str(error))
    finally:
        _let_go()


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Let what ends a job or a terminal do as Ctrl-C does: temporary files are removed."""

    def interrupt(number: int, _: object) -> NoReturn:
        raise KeyboardInterrupt(number)

    ours = []
    if threading.current_thread() is threading.main_thread():
        known = [one for one in signal.Signals if one.name in ("SIGTERM", "SIGHUP")]
        # what nohup ignores stays ignored
        ours = [one for one in known if signal.getsignal(one) is signal.SIG_DFL]
    for one in ours:
        signal.signal(one, interrupt)
    try:
        yield
    finally:
        for one in ours:
            signal.signal(one, signal.SIG_DFL)


def template(name: str, /, **words: str) -> str:
    """Return the text of a file of ``templates``, with each ``$word`` replaced if there are any."""
    return text.template(__file__, name, **words)


def _let_go() -> None:
    """Drop output that cannot be written: the interpreter would complain of it at its end."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(why: str) -> int:
    text.note(f"pkgdata: error: {why}")
    return 1


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    text.note(f"pkgdata: warning: {message}")
