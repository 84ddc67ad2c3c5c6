"""The command line: parse, call one library function, print.

Data goes to standard output, everything else to standard error.

Exit codes: 0 done; 1 an error; 2 wrong usage; 3 a check found differences; 130 interrupted, 143 by
SIGTERM.
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import difflib
import importlib
import logging
import os
import re
import shutil
import signal
import sys
import textwrap
import threading
import time
import warnings

from .. import __version__
from ..base import progress, text
from ..errors import PkgdataError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any, NoReturn

#: The commands of each module. Only the module of the command that runs is loaded, so that no
#: command waits for the imports of another one.
MODULES = {
    "files": ("get", "where", "fetch", "list", "verify"),
    "demo": ("demo",),
    "copying": ("cp", "mv", "sync"),
    "stores": ("ls", "du", "rm", "cat", "head", "touch"),
    "publish": ("registry", "publish"),
    "setup": ("init", "check", "completion", "complete-words"),
    "cache": ("cache", "migrate"),
    "doctor": ("doctor", "config", "ci-key"),
    "dataset": ("dataset",),
    "catalog": ("catalog",),
}

#: The order of the help; what is in no group is called by scripts alone.
GROUPS = {
    "Files of packages": ("get", "fetch", "list", "where", "verify"),
    "For authors of packages": ("init", "registry", "publish", "check"),
    "Any storage: folders, URLs, buckets, SFTP": (
        *("ls", "cp", "mv", "sync", "rm", "cat", "head", "du", "touch"),
    ),
    "Named datasets": ("dataset", "catalog"),
    "This computer": ("cache", "config", "doctor", "migrate", "ci-key", "completion", "demo"),
}
_SHOWN = frozenset(name for names in GROUPS.values() for name in names)

_ABOUT = "Data files of Python packages: found in local folders, or downloaded once."
_END = (
    "'pkgdata COMMAND --help' has the options of a command, and examples. Exit codes: 0 done; 1 an "
    "error; 2 wrong usage; 3 a check found differences; 130 interrupted."
)


# -- the parser ----------------------------------------------------------------------------------


class _Formatter(argparse.HelpFormatter):
    """Help in the terminal's width, up to 100 columns; the usage names what must be given."""

    def __init__(self, prog: str, **options: Any) -> None:
        columns = shutil.get_terminal_size().columns
        prog = f"{prog} [OPTIONS]"
        super().__init__(prog, max_help_position=26, width=min(100, columns) - 2, **options)

    def start_section(self, heading: str | None) -> None:
        super().start_section("arguments" if heading == "positional arguments" else heading)

    def _format_usage(self, usage: Any, actions: Any, groups: Any, prefix: Any) -> str:
        given = [one for one in actions if one.required or not one.option_strings]
        return super()._format_usage(usage, given, [], prefix)


class Parser(argparse.ArgumentParser):
    """The parser of a command: its help has examples, and what it refuses gets a guess."""

    #: One line for the help of all commands.
    about = ""

    def __init__(self, *, add_help: bool = True, **options: Any) -> None:
        super().__init__(add_help=False, formatter_class=_Formatter, **options)
        names = ("-h", "--help") if add_help else ("--help",)
        self.add_argument(*names, action="help", help="print this help")
        for flags, action, about in (
            (("-v", "--verbose"), "count", "report each download; -vv: each request, too"),
            (("-q", "--quiet"), "store_true", "no bars, no summary; warnings and errors stay"),
        ):
            # without a default: one before the command holds for the command's parser as well
            self.add_argument(*flags, action=action, default=argparse.SUPPRESS, help=about)
        self.set_defaults(run=self._show, usage=self.error, leaf=self)

    def _show(self, _: object) -> None:
        """Print the help of a command that has others below it, where none of these is given."""
        self.print_help()

    def format_help(self) -> str:
        """Return the help, with examples at its end."""
        if self.prog == "pkgdata":
            return _overview(self)
        lines = "".join(f"  {line}\n" for line in examples(self.prog))
        return f"{super().format_help()}\nexamples:\n{lines}" if lines else super().format_help()

    def error(self, message: str) -> NoReturn:
        """Report wrong usage and end the process."""
        self.print_usage(sys.stderr)
        hint = "" if "\nHint: " in message else f"\nHint: '{self.prog} --help' has examples"
        text.error(message + hint)
        self.exit(2)

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        choices = action.choices
        if not isinstance(choices, dict) or value in choices:
            super()._check_value(action, value)
        else:
            known = [one for one in choices if self.prog != "pkgdata" or one in _SHOWN]
            otherwise = f"'{self.prog} --help' lists the commands"
            guess = _guess(value, known, f"{self.prog} ") or otherwise
            self.error(f"unknown command {value!r}\nHint: {guess}")

    def take(self, extra: Sequence[str], args: argparse.Namespace) -> None:
        """Take names that stand behind an option; end the process if there is no place for them."""
        last = [one for one in self._actions if not one.option_strings][-1:]
        if not last or last[0].nargs not in ("*", "+") or any(one[:1] == "-" for one in extra):
            self._refuse(extra)
        setattr(args, last[0].dest, [*getattr(args, last[0].dest), *extra])

    def _refuse(self, extra: Sequence[str]) -> NoReturn:
        word = extra[0].partition("=")[0] if extra[0].startswith("-") else extra[0]
        known = [name for action in self._actions for name in action.option_strings]
        what = "unknown option" if word.startswith("-") else "one argument too many:"
        guess = _guess(word, known) or f"'{self.prog} --help' lists the options"
        self.error(f"{what} {word!r}\nHint: {guess}")


def _guess(word: str, known: Sequence[str], before: str = "") -> str:
    close = difflib.get_close_matches(word, known, 2) or [
        one for one in known if len(one) > 2 and (one.startswith(word) or word.startswith(one))
    ]
    names = " or ".join(f"'{before}{one}'" for one in close[:2])
    return f"did you mean {names}?" if close else ""


def examples(prog: str) -> list[str]:
    """Return the examples of a command such as ``"pkgdata cache rm"``, or of those below it."""
    alone = re.compile(rf"(?<![\w/.-]){prog}(?![\w/.-])")
    found = [line for line in template("examples.txt").splitlines() if alone.search(line)]
    return found if len(found) < 6 else found[:3]


def _overview(top: Parser) -> str:
    """Return the help of all commands, in groups."""
    known = next(one.choices for one in top._actions if isinstance(one.choices, dict))
    width = min(80, shutil.get_terminal_size().columns)
    lines = [textwrap.fill(_ABOUT, width), "", "usage: pkgdata COMMAND [OPTIONS] ..."]
    for title, names in GROUPS.items():
        rows = [f"  {name:<11} {known[name].about}" for name in names if name in known]
        fitted = (textwrap.fill(row, width, subsequent_indent=" " * 14) for row in rows)
        lines += ["", f"{title}:", *fitted]
    return "\n".join([*lines, "", textwrap.fill(_END, width), ""])


def parser(command: str | None = None) -> Parser:
    """Return the parser of one command, or of all if it is none of them."""
    top = Parser(prog="pkgdata")
    top.add_argument("-V", "--version", action="version", version=f"pkgdata {__version__}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", prog="pkgdata")
    wanted = [name for name, verbs in MODULES.items() if command in verbs]
    for name in wanted or MODULES:
        importlib.import_module(f"{__name__}.{name}").add(commands)
    return top


# -- running ---------------------------------------------------------------------------------------


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line, by default of this process; return the exit code."""
    with _interruptible(to_the_end=argv is None):
        return _main(sys.argv[1:] if argv is None else [*argv])


def _main(words: list[str]) -> int:
    try:
        text.open_streams()
        warnings.showwarning = _show_warning
        while words[:1] == ["help"]:
            words = [*words[1:], "--help"]
        if words in (["--version"], ["-V"], ["version"]):  # without the parser of any command
            print(f"pkgdata {__version__}")
            return 0
        command = next((one for one in words if one[:1] != "-" or one in ("-h", "--help")), None)
        args, extra = parser(command).parse_known_args(words)
        if extra:
            args.leaf.take(extra, args)
        with _reporting(getattr(args, "verbose", 0), hasattr(args, "quiet")):
            code: int = args.run(args) or 0
        sys.stdout.flush()
        return code
    except PkgdataError as error:
        hint = error.command or error.hint
        return _fail(error.message + (f"\nHint: {hint}" if hint else ""))
    except KeyboardInterrupt as error:
        text.complain("\npkgdata: interrupted")
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


class _Printed(logging.Handler):
    """Prints what the library logs, as the commands print what they say."""

    def emit(self, record: logging.LogRecord) -> None:
        warning = "warning: " if record.levelno >= logging.WARNING else ""
        progress.aside(lambda: text.complain(f"pkgdata: {warning}{record.getMessage()}"))


@contextlib.contextmanager
def _reporting(verbose: int, quiet: bool) -> Iterator[None]:
    """Let a command say as much as ``-v``, ``-vv`` and ``-q`` ask for."""
    logger, handler = logging.getLogger("pkgdata"), _Printed()
    before = logger.level, text.QUIET
    logger.addHandler(handler)
    logger.setLevel((logging.WARNING, logging.INFO, logging.DEBUG)[min(verbose, 2)])
    text.QUIET = quiet
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before[0])
        text.QUIET = before[1]


@contextlib.contextmanager
def _interruptible(to_the_end: bool) -> Iterator[None]:
    """Let Ctrl-C, and what ends a job or a terminal, interrupt the work once.

    Temporary files are then removed; if that takes more than a second, the next signal ends the
    process. ``to_the_end``: also while this process ends.
    """
    first: list[float] = []
    over = False

    def interrupt(number: int, _: object) -> None:
        # a second KeyboardInterrupt would break off what tidies up, or be printed with a traceback
        if not first:
            first.append(time.monotonic())
            raise KeyboardInterrupt(number)
        if time.monotonic() - first[0] > 1:
            if not over:  # else it was said
                os.write(2, b"\npkgdata: interrupted\n")  # print() may be what is under way
            os._exit(128 + number)

    ours: dict[signal.Signals, Any] = {}
    if threading.current_thread() is threading.main_thread():
        known = [one for one in signal.Signals if one.name in ("SIGINT", "SIGTERM", "SIGHUP")]
        # what nohup ignores stays ignored
        usual = (signal.SIG_DFL, signal.default_int_handler)
        ours = {one: was for one in known if (was := signal.getsignal(one)) in usual}
    for one in ours:
        signal.signal(one, interrupt)
    try:
        yield
    finally:
        over = True
        for one, was in ours.items():
            if first and to_the_end:  # Python itself would let it end the process at the very last
                atexit.register(signal.signal, one, signal.SIG_IGN)
            else:
                signal.signal(one, was)


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
    text.error(why)
    return 1


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    progress.aside(lambda: text.complain(f"pkgdata: warning: {message}"))
