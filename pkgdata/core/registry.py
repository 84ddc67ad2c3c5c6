"""The registry: which names exist, what they hash to, how large they are.

The format is pooch's, unchanged (pooch 1.9, ``Pooch.load_registry``): one entry a line,
``name digest [url]``, split as a shell would; lines that begin with ``#`` are comments. Facts that
pooch does not know ride in comment lines above the entry, so that pooch still reads the file::

    # maps of the 2026 release
    #: size=123456
    maps/dust.fits 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
    "with blank.csv" md5:098f6bcd4621d373cade4e832627b4f6 https://example.org/a?x=1

``#: size=`` is in bytes; ``#: url=`` may stand several times and adds further addresses. The files
that ``sha256sum`` and its like write (``SHA256SUMS``: ``digest  name``) are read too.
"""

from __future__ import annotations

import os

from ..base import fs
from ..base.hashes import HEX_LENGTH, Digest, hash_blocks
from ..base.report import InNotebook, plain_name, read_text
from ..errors import RegistryError, UnknownNameError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Any
else:
    # os has loaded it at start-up; collections.abc would cost 2 ms more
    from _collections_abc import Mapping

#: How the comment line begins that we write above an entry, and the most digits after it: no file
#: has a size of more, and int() refuses thousands of them.
_SIZE, _SIZE_DIGITS = "#: size=", 19
_EXPECTED = "expected 'name digest' or 'name digest url'"
_SHOWN = 200  # characters of a line that an error shows
#: Characters that mean nothing to a shell, as `shlex.quote` has them.
_PLAIN = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_@%+=:,./-"


class Entry:
    """One name of a registry.

    Parameters
    ----------
    name : str
        Relative name with ``/`` between its parts.
    digest : Digest or None
        What the bytes must hash to; None for a name that is not pinned.
    size : int or None
        Bytes, if known.
    urls : tuple of str
        Addresses of this object alone, tried before the package's ``dataurl``.
    """

    __slots__ = ("digest", "name", "size", "urls")

    def __init__(
        self, name: str, digest: Digest | None, size: int | None = None, urls: tuple[str, ...] = ()
    ) -> None:
        self.name = name
        self.digest = digest
        self.size = size
        self.urls = urls

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Entry) and repr(self) == repr(other)

    def __hash__(self) -> int:
        return hash((self.name, self.digest))

    def __repr__(self) -> str:
        return f"Entry({self.name!r}, {self.digest}, size={self.size}, urls={self.urls})"


class Registry(InNotebook, Mapping[str, Entry]):
    """An ordered mapping from name to `Entry`.

    Parameters
    ----------
    entries : iterable of Entry, optional
    file : str, optional
        Where it was read from, for errors.
    """

    #: Why a package's registry is empty, if it has none.
    lack = ""

    def __init__(self, entries: Iterable[Entry] = (), file: str | None = None) -> None:
        self.file = file
        # what a file says, the digest as written or (digest, size, urls), becomes an entry when it
        # is asked for, which lets a registry of 100,000 lines load in a fraction of the time
        self._rows: dict[str, str | tuple[str, int | None, tuple[str, ...]] | Entry] = {}
        # the sizes of rows that are just a digest
        self._sizes: dict[str, int] = {}
        for entry in entries:
            fs.safe_key(entry.name)  # a registry is a text
            self._rows[fs.safe_name(entry.name)] = entry

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Registry:
        """Read a registry file.

        Parameters
        ----------
        path : path-like

        Returns
        -------
        Registry

        Raises
        ------
        RegistryError
            The file is missing, not UTF-8, or has a malformed line, which is named.
        """
        file = os.fspath(path)
        try:
            text = read_text(file)
        except ValueError as error:
            raise RegistryError(f"{file}, {error}", hint="save it as UTF-8", file=file) from None
        except OSError as error:
            raise RegistryError(
                f"the registry cannot be read: {error}",
                hint="'pkgdata registry make DIR -o registry.txt' makes one",
                file=file,
            ) from error
        return cls.parse(text, file)

    @classmethod
    def parse(cls, text: str, file: str | None = None) -> Registry:
        """Read a registry from its text.

        Parameters
        ----------
        text : str
        file : str, optional
            For errors.

        Returns
        -------
        Registry

        Raises
        ------
        RegistryError
            A line is malformed; the message names it and what was expected.
        """
        self = cls(file=file)
        rows = self._rows
        lines = text.split("\n")
        if _is_quoted(text) or not self._fill_plain(text, lines):
            try:
                odd, count = self._fill(lines)
            except RegistryError as error:
                number = error.line or 1
                if not _is_sum(text.split(None, 1)[0]):
                    raise
                odd = number, lines[number - 1]  # SHA256SUMS quotes nothing: "it's" is a name there
            if odd:
                return self._parse_sums(text, *odd)
        else:
            count = len(lines) - lines.count("") - text.count(_SIZE)
        if rows and not self._uniform():
            first = next(iter(rows))
            if _is_sum(first) and not _is_sum(self._text(first)):
                return self._parse_sums(text, 1, text.split("\n")[0])
            self._check_digests(text)
        if count != len(rows):
            self._check_repeated(text)
        return self

    def _fill_plain(self, text: str, lines: list[str]) -> bool:
        """Fill the rows at the speed of C if the lines are as regular as those that we write."""
        # each just a name and a digest, and no comments, or one with the size above each
        sizes: list[str] = []
        if "#" in text:
            sizes, lines = lines[: len(lines) // 2 * 2 : 2], lines[1::2]
            joined = "\n".join(sizes)
            plain = joined.replace(_SIZE, "")
            sized = joined.count(_SIZE) == text.count("#") == len(sizes) == len(lines)
            if not sized or plain.encode(errors="replace").translate(None, b"\n0123456789"):
                return False
            sizes = plain.split("\n")
            if "" in sizes or max(map(len, sizes)) > _SIZE_DIGITS:
                return False
        try:
            self._rows.update(map(str.split, filter(None, lines)))  # type: ignore[arg-type]
        except ValueError:  # a line has not two words
            self._rows.clear()
            return False
        if sizes:
            if len(self._rows) != len(sizes):  # a name stands twice
                self._rows.clear()
                return False
            self._sizes = dict(zip(self._rows, map(int, sizes), strict=True))
        return True

    def _fill(self, lines: list[str]) -> tuple[tuple[int, str] | None, int]:
        """Fill the rows; return the first (number, line) that is no entry, and the entries read."""
        size: int | None = None
        urls: tuple[str, ...] = ()
        count = 0
        for number, line in enumerate(lines, 1):
            words = line.split()
            if not words:
                continue
            if words[0][0] == "#":
                if words[0] == "#:":
                    size, urls = self._facts(words[1:], number, size, urls)
                continue
            if _is_quoted(line):
                words = self._shell_words(line, number)
            if len(words) == 3 and words[2][:1] != "#":
                urls = (words[2], *urls)
            elif len(words) != 2:
                return (number, line), count
            self._rows[words[0]] = words[1] if size is None and not urls else (words[1], size, urls)
            size, urls = None, ()
            count += 1
        return None, count

    def _facts(
        self, words: list[str], number: int, size: int | None, urls: tuple[str, ...]
    ) -> tuple[int | None, tuple[str, ...]]:
        for word in words:
            key, _, value = word.partition("=")
            if key == "size":
                if not (value.isascii() and value.isdigit() and len(value) <= _SIZE_DIGITS):
                    raise self._error(number, "expected 'size=' and a number of bytes", word)
                size = int(value)
            elif key == "url":
                urls = (*urls, value)
            # other keys belong to a later release
        return size, urls

    def _words(self, line: str, number: int) -> list[str]:
        """Return the words of an entry's line, none of a comment's."""
        if line.lstrip().startswith("#"):
            return []
        return self._shell_words(line, number) if _is_quoted(line) else line.split()

    def _shell_words(self, line: str, number: int) -> list[str]:
        import shlex

        try:
            return shlex.split(line)
        except ValueError as error:
            raise self._error(number, _EXPECTED, f"{line} ({error})") from None

    def _error(self, number: int, expected: str, found: str) -> RegistryError:
        found = repr(found if len(found) <= _SHOWN else f"{found[:_SHOWN]}...")
        text = f"{self.file or 'registry'}, line {number}: {expected}, found {found}"
        return RegistryError(text, file=self.file, line=number)

    def _text(self, name: str) -> str:
        """Return a digest as it is written in the file."""
        row = self._rows[name]
        return row if isinstance(row, str) else row[0] if isinstance(row, tuple) else ""

    def _uniform(self) -> bool:
        """Return True if all digests are valid and of one kind, looking at all of them at once."""
        rows = self._rows.items()
        texts = [row if isinstance(row, str) else self._text(name) for name, row in rows]
        prefix, colon, value = texts[0].rpartition(":")
        joined = "\n" + "\n".join(texts)
        right = HEX_LENGTH.get(prefix if colon else "sha256") == len(value)
        if not right or len(set(map(len, texts))) > 1:
            return False
        if colon:
            mark = "\n" + prefix + colon
            if joined.count(mark) != len(texts):
                return False
            joined = joined.replace(mark, "")
        return not joined.encode(errors="replace").translate(None, b"\n0123456789abcdef")

    def _check_digests(self, text: str) -> None:
        for name in self._rows:
            value = self._text(name)
            try:
                Digest.parse(value)
            except ValueError:
                lines = enumerate(text.split("\n"), 1)
                found = [one for one in lines if self._words(one[1], one[0])[:1] == [name]]
                self._digest(value, *found[-1])  # of repeated names the last one counts

    def _digest(self, value: str, number: int, line: str) -> Digest:
        try:
            return Digest.parse(value)
        except ValueError as error:
            raise self._error(number, f"{_EXPECTED}; {error}", line) from None

    def _check_repeated(self, text: str) -> None:
        seen: dict[str, tuple[str, int]] = {}
        for number, line in enumerate(text.split("\n"), 1):
            words = self._words(line, number)
            if len(words) > 1:
                digest, first = seen.setdefault(words[0], (words[1], number))
                if self._digest(digest, first, line) != self._digest(words[1], number, line):
                    expected = f"{words[0]!r} stands on line {first} with another digest"
                    raise self._error(number, f"{expected}; expected it once", line)

    def _parse_sums(self, text: str, number: int, line: str) -> Registry:
        """Read ``digest  name`` lines, or raise the error of the line that is no registry's."""
        for alg in ("sha256", "sha512", "sha1", "md5", "sha384", "sha224"):
            width = HEX_LENGTH[alg]
            found = Registry(file=self.file)
            for at, row in enumerate(text.split("\n"), 1):
                row = row.rstrip("\r")
                name = row[width + 2 :].removeprefix("./")
                if not row:
                    continue
                if not (_is_sum(row[:width]) and row[width : width + 2] in ("  ", " *") and name):
                    break
                digest = f"{alg}:{row[:width].lower()}"
                if found._rows.setdefault(name, digest) != digest:
                    raise self._error(at, f"{name!r} stands above with another digest", row)
            else:
                return found
            if found._rows:  # the lines above are sums, so this one is what is wrong
                raise self._error(at, f"expected '{alg} digest  name'", row)
        raise self._error(number, _EXPECTED, line)

    def __getitem__(self, name: Any) -> Entry:
        try:
            row = self._rows[name]
        except KeyError:
            if isinstance(name, os.PathLike):
                return self[plain_name(name)]
            raise self._unknown(name) from None
        if isinstance(row, Entry):
            return row
        fs.safe_name(name)
        text, size, urls = (row, self._sizes.get(name), ()) if isinstance(row, str) else row
        entry = self._rows[name] = Entry(name, Digest.parse(text), size, urls)
        return entry

    def get(self, name: str, default: Any = None) -> Any:
        """Return an entry, or something else where there is none.

        Parameters
        ----------
        name : str
        default : object, optional

        Returns
        -------
        Entry or object
        """
        # a mapping's own get would search for close names, to throw them away
        key = plain_name(name)
        return self[key] if key in self._rows else default

    def _unknown(self, name: str) -> UnknownNameError:
        import difflib

        close = difflib.get_close_matches(name, list(self._rows), 3, 0.5)
        hint = f"it has {len(self)} names; 'pkgdata list' shows them"
        where = f" {self.file}" if self.file else ""
        if close:
            hint = f"did you mean {' or '.join(map(repr, close))}?"
        elif self.lack:
            where = f": {self.lack}"
            hint = "'pkgdata check PKG' shows what an installed package or a wheel lacks"
        elif not self._rows:
            hint = "it is empty: 'pkgdata registry make' or 'pkgdata publish' fills it"
        return UnknownNameError(
            f"{name!r} is not in the registry{where}", hint=hint, name=name, close=close
        )

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, name: object) -> bool:
        return plain_name(name) in self._rows

    def __repr__(self) -> str:
        return f"<Registry of {len(self)} names{' from ' + self.file if self.file else ''}>"

    def under(self, prefix: Any) -> Registry:
        """Return the entries below a folder, their names relative to it.

        Parameters
        ----------
        prefix : str or path-like
            Folder such as ``"maps"``; ``""`` for all.

        Returns
        -------
        Registry

        Raises
        ------
        UnknownNameError
            There is nothing below it.
        """
        start = (plain_name(prefix).strip("/") + "/").lstrip("/")
        entries = [self[name] for name in self._rows if name.startswith(start)]
        if not entries:
            raise self._unknown(plain_name(prefix))
        return Registry(
            (Entry(e.name[len(start) :], e.digest, e.size, e.urls) for e in entries), self.file
        )

    def digest(self) -> Digest:
        """Return the identity of the tree: SHA-256 of its sorted ``digest  name`` lines.

        URLs and sizes are left out, so the identity does not depend on where the files lie. The
        scheme follows Go's ``dirhash.Hash1``, with the algorithm written before each digest.

        Returns
        -------
        Digest
        """
        lines = sorted(f"{entry.digest}  {entry.name}\n" for entry in self.values())
        return hash_blocks(("".join(lines).encode(),))

    def dumps(self) -> str:
        """Return the text of the registry in pooch's format.

        Returns
        -------
        str
        """
        lines = []
        for entry in self.values():
            if entry.size is not None:
                lines.append(f"{_SIZE}{entry.size}")
            lines += [f"#: url={url}" for url in entry.urls[1:]]
            digest = entry.digest
            if digest is None:
                raise RegistryError(f"{entry.name!r} has no digest and cannot be written")
            words = [_quote(entry.name), digest.hex if digest.alg == "sha256" else str(digest)]
            words += map(_quote, entry.urls[:1])
            lines.append(" ".join(words))
        return "".join(f"{line}\n" for line in lines)

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write the registry to a file, whole or not at all.

        Parameters
        ----------
        path : path-like

        Raises
        ------
        OSError
            The file cannot be written.
        """
        fs.write_atomic(os.fspath(path), self.dumps().encode())


def _quote(word: str) -> str:
    if word and not word.strip(_PLAIN):
        return word  # the common case, which need not import shlex
    from shlex import quote

    return quote(word)


def _is_quoted(text: str) -> bool:
    return '"' in text or "'" in text or "\\" in text


def _is_sum(text: str) -> bool:
    return len(text) >= 32 and not text.strip("0123456789abcdefABCDEF")


def as_registry(
    source: Registry | Mapping[str, str | None] | str | os.PathLike[str] | None,
    urls: Mapping[str, str] | None = None,
) -> Registry:
    """Make a registry of a file, or of pooch's ``registry`` and ``urls`` mappings."""
    if isinstance(source, Registry):
        registry = source
    elif isinstance(source, (str, os.PathLike)):
        registry = Registry.load(source)
    else:
        registry = Registry(_entry(name, text) for name, text in (source or {}).items())
    if urls:
        registry = Registry(
            (Entry(e.name, e.digest, e.size, (urls[e.name],) if e.name in urls else e.urls))
            for e in registry.values()
        )
    return registry


def _entry(name: str, text: str | None) -> Entry:
    try:
        return Entry(name, None if text is None else Digest.parse(text))
    except ValueError as error:
        raise RegistryError(f"registry: the digest of {name!r}: {error}") from None
