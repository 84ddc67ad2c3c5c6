"""Agreements that a user must give before a dataset is used."""

from __future__ import annotations

from ....catalog.decorators import hook
from ....catalog.definition import Definition
from ....errors import CatalogError


@hook("pre-use")
def useragreement(definition: Definition, message: str, id: str | None = None) -> None:
    """Ask the user to agree, once."""
    context = definition.context
    key = id or definition.id
    if context.settings.agreements.get(key) == "yes":
        return
    ask = definition.catalog.ask
    answer = ask(f"{message}\nDo you agree? [yes/no] ") if ask is not None else ""
    if answer.strip().lower() not in ("y", "yes"):
        raise CatalogError(
            f"{definition.id} may be used only by those who agree: {message}",
            hint="prepare it in a terminal: pkgdata catalog prepare " + definition.id,
        )
    context.settings.set_agreement(key)
