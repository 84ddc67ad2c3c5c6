"""What cannot be fetched by a program: the user is told how to get it, and asked where it is."""

from __future__ import annotations

from .. import checks
from .elsewhere import Elsewhere

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any


class manual(Elsewhere):
    """A file or folder that the user must get; where it lies is asked once and remembered.

    Parameters
    ----------
    varname : str
        Its name.
    instructions : str, default ``""``
        How to get it: "sign the form at …".
    url : str, optional
        A page that says more.
    digest : str or Digest, optional
        Of the file: ``alg:hex`` or a bare SHA-256.
    transient : bool, default False
        See `Resource`.
    """

    def __init__(
        self,
        varname: str,
        instructions: str = "",
        *,
        url: str | None = None,
        digest: Any = None,
        transient: bool = False,
    ) -> None:
        super().__init__(varname, (), transient=transient)
        self.instructions = instructions
        self.url = url
        self.digest = digest

    def _how(self) -> str:
        return " ".join(filter(None, [self.instructions.strip(), self.url]))

    def question(self) -> str:
        how = self._how()
        return f"{how}\n{super().question()}" if how else super().question()

    def advice(self) -> str:
        how = self._how()
        return f"{how}; then tell where it is: " if how else super().advice()

    def _remember(self, path: Path) -> None:
        if self.digest is not None:
            checks.verify(path, checks.parse(self.digest), str(path))
        super()._remember(path)
