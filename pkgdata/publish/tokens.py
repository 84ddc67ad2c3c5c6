"""Where a service's token comes from: the environment, a keyring, or a prompt.

Never from the command line's arguments, which every user of the machine can read; and a token that
was found is shown nowhere: `hide` takes it out of what other programs say.
"""

from __future__ import annotations

import os
import sys

from ..errors import PublishError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

#: The name under which a keyring keeps the tokens, each for its service.
KEYRING = "pkgdata"

#: Tokens that were typed, so that nobody is asked twice.
_typed: dict[str, str] = {}

#: Every token that was found, to be hidden.
_found: set[str] = set()


def find(service: str, variables: Sequence[str], *, needed: bool = True) -> str | None:
    """Return a service's token, from the first variable that is set, or a keyring.

    If one is needed and there is none, it is asked for on the terminal.
    """
    for name in variables:
        if os.environ.get(name, "").strip():
            return _checked(os.environ[name].strip(), name)
    token = _from_keyring(service) or _typed.get(service)
    if token is None and needed:
        token = _typed[service] = _ask(service, variables)
    return None if token is None else _checked(token, f"the token for {service}")


def _checked(token: str, origin: str) -> str:
    """Refuse what could not stand in a header, before an HTTP library shows it in its error."""
    if not token.isascii() or not token.isprintable() or " " in token:
        raise PublishError(f"{origin} holds a blank or a character that no token has")
    _found.add(token)
    return token


def _from_keyring(service: str) -> str | None:
    import importlib

    try:
        keyring = importlib.import_module("keyring")
        errors = importlib.import_module("keyring.errors")
    except ImportError:
        return None
    try:
        found: str | None = keyring.get_password(KEYRING, service)
    except errors.KeyringError:
        return None  # no backend, or a locked one: as if there were none
    return (found or "").strip() or None


def _ask(service: str, variables: Sequence[str]) -> str:
    if sys.stdin is not None and sys.stdin.isatty():
        import getpass

        try:
            typed = getpass.getpass(f"Token for {service} (it will not be shown): ").strip()
        except EOFError:
            typed = ""
        if typed:
            return typed
    raise PublishError(
        f"no token for {service}",
        hint=f"set {' or '.join(variables)}, or keep it in a keyring: "
        f"pip install keyring && keyring set {KEYRING} {service}",
    )


def hide(text: str) -> str:
    """Take every token that was found out of a text."""
    for token in sorted(_found, key=len, reverse=True):
        text = text.replace(token, "***")
    return text
