"""``completion``: what the shells offer after a tab.

One Python function answers for all three shells, from the parser itself, so that no list of
commands has to be kept; package and file names are offered too.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from argparse import Namespace
    from typing import Any

_SCRIPTS = {
    "bash": """_pkgdata() {
  local IFS=$'\\n'
  COMPREPLY=($(pkgdata complete-words "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
}
complete -o default -F _pkgdata pkgdata
""",
    "zsh": """#compdef pkgdata
_pkgdata() {
  local -a found
  found=("${(@f)$(pkgdata complete-words "${(@)words[2,CURRENT]}" 2>/dev/null)}")
  compadd -a found || _files
}
compdef _pkgdata pkgdata
""",
    "fish": """complete -c pkgdata -a '(
  pkgdata complete-words (commandline -opc)[2..-1] (commandline -ct) 2>/dev/null
)'
""",
}


def add(commands: Any) -> None:
    """Add these commands to the parser."""
    parser = commands.add_parser(
        "completion",
        help="print the completion script of a shell",
        description='bash: eval "$(pkgdata completion bash)" in ~/.bashrc; zsh the same in '
        "~/.zshrc; fish: pkgdata completion fish > ~/.config/fish/completions/pkgdata.fish",
    )
    parser.add_argument("shell", choices=sorted(_SCRIPTS))
    parser.set_defaults(run=_completion)

    words = commands.add_parser("complete-words")
    words.add_argument("words", nargs="*")
    words.set_defaults(run=_words)


def _completion(args: Namespace) -> int:
    print(_SCRIPTS[args.shell], end="")
    return 0


def _words(args: Namespace) -> int:
    *before, current = args.words or [""]
    print("\n".join(candidates(before, current)))
    return 0


def candidates(before: list[str], current: str) -> list[str]:
    """Return what may stand at a place of the command line.

    Parameters
    ----------
    before : list of str
        The complete words before it, without ``pkgdata``.
    current : str
        The word that is being typed.
    """
    from . import parser

    level: argparse.ArgumentParser = parser()
    rest = list(before)
    while rest and (verbs := _verbs(level)):
        word = rest.pop(0)
        if word in verbs:
            level = verbs[word]
    verbs = _verbs(level)
    if current.startswith("-"):
        found = [o for action in level._actions for o in action.option_strings]
    elif verbs:
        found = [name for name in verbs if name != "complete-words"]
    else:
        found = _values(level, [word for word in rest if not word.startswith("-")])
    return sorted(word for word in found if word.startswith(current))


def _verbs(level: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    for action in level._actions:
        if isinstance(action.choices, dict):
            return dict(action.choices)
    return {}


def _values(level: argparse.ArgumentParser, given: list[str]) -> list[str]:
    """Return packages for the first place and the package's files for the next ones."""
    from ..core.declaration import find_package, installed
    from ..errors import PkgdataError

    positional = [action for action in level._actions if not action.option_strings]
    for action in positional:
        if action.choices:
            return [str(choice) for choice in action.choices]
    if not positional or positional[0].dest != "package":
        return []
    if not given:
        return sorted(installed())
    try:
        return list(find_package(given[0]).registry)
    except (PkgdataError, OSError):
        return []
