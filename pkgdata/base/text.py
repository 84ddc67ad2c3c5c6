"""What the commands read and print: patterns, lines, tables, sizes, JSON, texts of templates."""

from __future__ import annotations

import codecs
import functools
import itertools
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from ..errors import ConfigError, escaped, required


def size(count: float | None) -> str:
    """Return bytes for people: ``"1.5 MB"``, or ``"?"`` for None."""
    if count is None:
        return "?"
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}" if count < 100 or unit == "B" else f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def seconds(count: float) -> str:
    """Return a duration for people: ``"0.25 s"``, ``"12 s"`` or ``"3 min 20 s"``."""
    if count < 60:
        return f"{count:.2g} s" if count < 10 else f"{count:.0f} s"
    minutes, rest = divmod(round(count), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def speed(count: int, took: float) -> str:
    """Return what came in some time: ``"25 MB in 2 s, 12.5 MB/s"``."""
    rate = f", {size(count / took)}/s" if took >= 0.001 and count else ""
    return f"{size(count)} in {seconds(took)}{rate}"


def counted(count: int, noun: str) -> str:
    """Return ``"1 file"`` or ``"2 files"``; what follows " of " stays as it is."""
    head, of, tail = noun.partition(" of ")
    return f"{count} {head}{'s' if head and count != 1 else ''}{of}{tail}"


def closing(
    verb: str,
    count: int,
    total: int | None = None,
    *,
    noun: str = "file",
    place: str = "",
    took: float | None = None,
    **others: int,
) -> str:
    """Return the line that ends a command; it says what happened, not what was asked for.

    ``closing("fetched", 2, 25600, noun="file of planck", place="into /cache", took=0.4, failed=1)``
    is "2 files of planck fetched into /cache (25.6 kB in 0.4 s, 64 kB/s), 1 failed". The count is
    of what is new; ``others`` are those of the rest (``already_there=``), left out if 0.
    """
    facts = "" if took is None else f"in {seconds(took)}"
    if total is not None:
        facts = size(total) if took is None else speed(total, took)
    line = " ".join(filter(None, [counted(count, noun).rstrip(), verb, place]))
    line += f" ({facts})" if facts and count else ""
    rest = [f"{many} {what.replace('_', ' ')}" for what, many in others.items() if many]
    return ", ".join([line, *rest])


def template(module: str, name: str, /, **words: object) -> str:
    """Return a file of ``templates`` next to a module, each ``$word`` replaced if there are any.

    ``FILE#PART`` is what stands in the file between the line ``<!-- PART -->`` and the next such.
    """
    text = _template(os.path.join(os.path.dirname(os.path.abspath(module)), "templates", name))
    if not words:
        return text
    import string  # downloads are spared it

    return string.Template(text).substitute(words)


@functools.cache
def _template(path: str) -> str:
    path, _, part = path.partition("#")
    with open(path, encoding="utf-8") as file:
        text = file.read()
    if part:
        _, found, text = text.partition(f"<!-- {part} -->\n")
        assert found, f"{path} has no part {part}"
        text = text.partition("\n<!-- ")[0].removesuffix("\n")
    return text


def page(module: str, file: str, style: str, script: str, /, **words: object) -> str:
    """Return a page: a template with the style and script that all share, and those of its own.

    The template has their words and, for its policy, ``$style_hash`` and ``$script_hash``.
    """
    css, js = (
        "\n" + template(__file__, f"page.{kind}") + template(module, own)
        for kind, own in (("css", style), ("js", script))
    )
    known = {"style": css, "script": js, "style_hash": csp_hash(css), "script_hash": csp_hash(js)}
    return template(module, file, **known, **words)


def html(text: object) -> str:
    """Return a text as it stands in HTML; what would turn its direction is shown as an escape."""
    from html import escape

    return escape(escaped(str(text)))


def csp_hash(text: str) -> str:
    """Return what a content security policy calls a script or style."""
    import base64
    import hashlib

    digest = hashlib.sha256(text.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print columns that line up; in a terminal, long cells are wrapped to its width."""
    everything = [[escaped(cell, but="") for cell in row] for row in (head, *rows)]
    widths = [max(map(len, column)) for column in zip(*everything, strict=True)]
    if sys.stdout.isatty():  # what a program reads stays on one line
        room = os.get_terminal_size(sys.stdout.fileno()).columns - 2 * (len(head) - 1)
        widths = _fitted(widths, room)
    for row in everything:
        parts = [_wrapped(cell, width) for cell, width in zip(row, widths, strict=True)]
        for line in itertools.zip_longest(*parts, fillvalue=""):
            cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
            print("  ".join(cells).rstrip())


def _fitted(widths: list[int], room: int) -> list[int]:
    """Return widths of columns that fit: the widest ones give way."""
    most = max(widths)
    while most > 8 and sum(min(width, most) for width in widths) > room:
        most -= 1
    return [min(width, most) for width in widths]


def _wrapped(cell: str, width: int) -> list[str]:
    if len(cell) <= width:
        return [cell]
    import textwrap

    return textwrap.wrap(cell, width, break_on_hyphens=False)


def json(value: object) -> None:
    """Print a value as JSON, which is UTF-8 or, where that is not the encoding, ASCII."""
    encoding = codecs.lookup(getattr(sys.stdout, "encoding", None) or "utf-8").name
    print(as_json(value, indent=2, ensure_ascii=encoding != "utf-8"))


def as_json(value: object, **how: Any) -> str:
    """Return a value as JSON, in which no character is one that a terminal obeys.

    A byte of a name that is not UTF-8 is an escape, as Python reads it: 0x80 is ``\\udc80``.
    """
    from json import dumps

    found = dumps(value, **{"ensure_ascii": False, **how})
    odd = (c for c in set(found) if escaped(c) != c or "\ud800" <= c <= "\udfff")
    return found.translate({ord(c): f"\\u{ord(c):04x}" for c in odd})


def json_or_table(
    as_json: bool, value: object, head: Sequence[str], rows: Sequence[Sequence[str]]
) -> None:
    """Print a value as JSON, or as a table for people."""
    if as_json:
        json(value)
    else:
        table(head, rows)


def add_json(parser: Any) -> None:
    """Add ``--json`` to the parser of a command."""
    parser.add_argument("--json", action="store_true", help="print JSON, for scripts")


def add_service(parser: Any, anonymous: str | None = "send no credentials") -> None:
    """Add how buckets are reached, by the names that `Store` has for it; see `service`."""
    group = parser.add_argument_group("buckets")
    if anonymous:
        group.add_argument(
            "--anonymous", "--no-sign-request", action="store_true", default=None, help=anonymous
        )
    group.add_argument("--endpoint", metavar="URL", help="of another service than usual")
    group.add_argument("--region", metavar="NAME", help="of the bucket; found out by default")
    group.add_argument(
        "--request-payer",
        metavar="WHO",
        help='who pays for the requests: "requester" (S3), or a project (Google)',
    )


def service(args: Any) -> dict[str, Any]:
    """Return what was said of how buckets are reached, as options of `Store`."""
    words = ("anonymous", "endpoint", "region", "request_payer")
    return {word: found for word in words if (found := getattr(args, word, None)) is not None}


def command(
    commands: Any,
    name: str,
    run: Callable[[Any], int | None],
    about: str,
    *arguments: str,
    as_json: bool = False,
    **more: Any,
) -> Any:
    """Add a command with its function and arguments, each ``"name: help"``; return its parser."""
    parser = _add_parser(commands, name, about, more)
    parser.set_defaults(run=run)
    for one in arguments:
        dest, _, what = one.partition(": ")
        parser.add_argument(dest, metavar=dest.upper(), help=what)
    if as_json:
        add_json(parser)
    return parser


def group(commands: Any, name: str, about: str, **more: Any) -> tuple[Any, Any]:
    """Add a command that has others below it; return its parser, and where these are added."""
    parser = _add_parser(commands, name, about, more)
    dest = "action" if getattr(commands, "dest", "") == "verb" else "verb"
    verbs = parser.add_subparsers(title="commands", dest=dest, metavar="VERB", prog=parser.prog)
    return parser, verbs


def _add_parser(commands: Any, name: str, about: str, more: dict[str, Any]) -> Any:
    """Add a parser; its help begins with what the list of commands says of it."""
    first = f"{about[0].upper()}{about[1:]}."
    more["description"] = f"{first} {more.get('description', '')}".rstrip()
    parser = commands.add_parser(name, help=about, **more)
    parser.about = about
    return parser


class Choice:
    """Which names are taken, by patterns as in a ``.gitignore`` file.

    If there are any to ``include``, only names that match one are taken; of these, none that
    matches one to ``exclude``. A line ``!PATTERN`` of ``exclude`` takes what lines before it left
    out. With ``junk`` the lines of `JUNK` come before those of ``exclude``.
    """

    #: What editors, file managers, git and Python leave in a folder of data.
    JUNK = (".git/", ".DS_Store", "Thumbs.db", "*~", "__pycache__/")

    def __init__(
        self,
        exclude: str | Iterable[str] = (),
        include: str | Iterable[str] = (),
        junk: bool = False,
    ) -> None:
        only, without = (
            [given] if isinstance(given, str) else [*given] for given in (include, exclude)
        )
        if only:  # "--exclude '*' --include '*.txt'" of other tools: the first goes without saying
            without = [line for line in without if line.strip("/") not in ("*", "**")]
        lines = ["*", *(f"!{line}" for line in only)] if only else []
        lines += [*(self.JUNK if junk else ()), *without]
        #: The last line that matches decides: it and whether it takes, the last line first.
        self._rules = [
            (_compiled(line.removeprefix("!")), line.startswith("!"), junk and line in self.JUNK)
            for line in reversed(lines)
        ]
        #: Names that were left out as junk.
        self.junk: list[str] = []

    def __bool__(self) -> bool:
        return bool(self._rules)

    def __call__(self, name: str) -> bool:
        """Return whether a name with ``/``, relative to the folder that was given, is taken."""
        for pattern, takes, junk in self._rules:
            if pattern.match(name):
                if junk:
                    self.junk.append(name)
                return takes
        return True

    def note(self) -> str:
        """Return a line on the files that were left out as junk; "" if there are none."""
        names = sorted({name for name in self.junk if not name.endswith("/")})
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        hint = "to take them: --exclude '!PATTERN'"
        found = f"{counted(len(names), 'file')} left out: {', '.join(names[:3])}{more} ({hint})"
        return found if names else ""


def _compiled(line: str) -> re.Pattern[str]:
    spec = required("pathspec", "choosing files by patterns").GitIgnoreSpec
    try:  # a "#" begins a comment only in a file
        found: Any = [*spec.from_lines([f"\\{line}" if line[:1] == "#" else line]).patterns]
    except ValueError:
        found = []
    if not found or found[0].include is None:
        raise ConfigError(f"{line!r} is no pattern; expected one such as '*.tmp' or 'old/'")
    pattern: re.Pattern[str] = found[0].regex
    return pattern


def add_choice(parser: Any, removes: bool = False) -> None:
    """Add ``--exclude``, ``--include`` and, for what removes, ``--max-delete`` to a command."""
    for flag, what in (("--exclude", "skip"), ("--include", "take only")):
        parser.add_argument(
            flag,
            action="append",
            default=[],
            metavar="PATTERN",
            help=f"{what} names that match, as in a .gitignore file; may be repeated",
        )
    if removes:
        parser.add_argument(
            "--max-delete", type=int, metavar="N", help="remove nothing if it were more than N"
        )


def differences(found: Any, as_json: bool) -> int:
    """Print what is missing, extra and changed in a comparison; return the exit code."""
    if as_json:
        json({"missing": found.missing, "extra": found.extra, "changed": found.changed})
        return 3 if found else 0
    rows = [["missing", name] for name in found.missing]
    rows += [["extra", name] for name in found.extra]
    rows += [["changed", f"{name}: {what}"] for name, what in found.changed.items()]
    if rows:
        table(["STATE", "NAME"], rows)
    else:
        note("no difference")
    return 3 if found else 0


def ask(question: str) -> int:
    """Ask before something is removed; return 0 for yes, else the exit code."""
    if not sys.stdin.isatty():
        error("no terminal to ask on; use --yes")
        return 2
    print(f"{escaped(question)} [y/N] ", end="", file=sys.stderr, flush=True)
    return 0 if sys.stdin.readline().strip().lower() in ("y", "yes") else 1


#: Whether `note` prints nothing.
QUIET = False


def note(line: str) -> None:
    """Print a line to standard error, unless ``-q`` is given: what became of the work."""
    if not QUIET:
        complain(line)


def error(why: str) -> None:
    """Print to standard error what went wrong."""
    complain(f"pkgdata: error: {why}")


def complain(line: str) -> None:
    """Print a line to standard error, whatever is asked for."""
    try:
        print(escaped(line), file=sys.stderr)
    except OSError:
        pass  # nobody reads it; the work goes on


def is_logged(level: int) -> bool:
    """Return True if somebody may hear of such a level; below a warning, who imported logging."""
    # a download that nobody watches is spared the import, which takes as long as a small file
    if level < 30 and "logging" not in sys.modules:
        return False
    import logging

    return logging.getLogger("pkgdata").isEnabledFor(level)


def log(level: int, message: str, *values: object) -> None:
    """Log to the logger ``pkgdata``."""
    if is_logged(level):
        import logging

        logging.getLogger("pkgdata").log(level, message, *values, stacklevel=2)


def say(line: str) -> None:
    """Print a line that holds names; control characters in them are escaped."""
    print(escaped(line, but="\t"))


def open_streams() -> None:
    """Let the standard streams take any text, and let there be some."""
    codecs.register_error("pkgdata", _written)
    for name, mode, errors in (
        ("stdin", "r", "replace"),
        ("stdout", "w", "pkgdata"),
        ("stderr", "w", "pkgdata"),
    ):
        stream = getattr(sys, name)
        if stream is None or stream.closed:  # >&- of a shell; a new file must not get its number
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115 - it stays
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=errors)


def _written(error: UnicodeError) -> tuple[bytes, int]:
    """Return what stands for characters that an encoding lacks: bytes of a file's name, or ?."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    codes = map(ord, error.object[error.start : error.end])
    return bytes(c - 0xDC00 if 0xDC80 <= c <= 0xDCFF else 0x3F for c in codes), error.end


def add_null(parser: Any) -> None:
    """Add ``-0`` to the parser of a command that reads `lines`."""
    parser.add_argument(
        "-0", "--null", action="store_true", help="with -: names end in a NUL byte (find -print0)"
    )


def lines(null: bool = False) -> Iterator[str]:
    """Yield the lines of standard input, or what ends in a NUL byte: paths or URLs."""
    stream = sys.stdin.buffer
    if not null:
        for line in stream:
            yield os.fsdecode(line.rstrip(b"\r\n"))
        return
    rest = b""
    while block := stream.read(1 << 16):
        *names, rest = (rest + block).split(b"\0")
        yield from map(os.fsdecode, names)
    if rest:
        yield os.fsdecode(rest)
