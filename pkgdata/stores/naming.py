"""Bracket expressions: one text for many prefixes, as ``s3://bucket/part-[0-3][ab]{2}``."""

from __future__ import annotations

from ..errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

#: More prefixes than this are refused: each costs a request.
MOST = 100_000


def expand_brackets(text: str) -> Iterator[str]:
    """Yield each text that an expression stands for, sorted, each once.

    Parameters
    ----------
    text : str
        ``[abc]`` stands for one of the characters, ``[a-f]`` for one of a range, and ``{3}``
        behind it repeats it.

    Raises
    ------
    ConfigError
        A bracket is not closed or empty, or the expression stands for too many texts.

    Examples
    --------
    >>> list(expand_brackets("x[ab]{2}"))
    ['xaa', 'xab', 'xba', 'xbb']
    """
    import itertools

    parts: list[list[str]] = []
    count = 1
    rest = text
    while rest:
        plain, bracket, rest = rest.partition("[")
        if plain:
            parts.append([plain])
        if bracket:
            found, times, rest = _bracket(text, rest)
            count *= len(found) ** times
            if count > MOST:
                raise ConfigError(f"{text!r} stands for more than {MOST} prefixes")
            parts += [found] * times
    return map("".join, itertools.product(*parts))


def _bracket(text: str, rest: str) -> tuple[list[str], int, str]:
    """Read what is behind ``[``: its characters, how often, and what comes then."""
    inside, closed, rest = rest.partition("]")
    characters = sorted(set(_characters(inside)))
    if not closed or not characters:
        raise ConfigError(
            f"{text!r}: expected characters and ']' after '['",
            hint="write [abc] or [a-f], and {2} behind it to repeat it",
        )
    if not rest.startswith("{"):
        return characters, 1, rest
    number, closed, after = rest[1:].partition("}")
    if not closed or not (number.isascii() and number.isdigit()) or len(number) > 3:
        raise ConfigError(f"{text!r}: expected a number and '}}' after '{{'")
    return characters, int(number), after


def _characters(inside: str) -> Iterator[str]:
    i = 0
    while i < len(inside):
        if inside[i + 1 : i + 2] == "-" and i + 2 < len(inside):
            yield from map(chr, range(ord(inside[i]), ord(inside[i + 2]) + 1))
            i += 3
        else:
            yield inside[i]
            i += 1
