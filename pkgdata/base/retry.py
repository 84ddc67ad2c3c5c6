"""Retry what failed transiently, after waits that grow and that no two clients share.

The waits follow decorrelated jitter (M. Brooker, "Exponential Backoff And Jitter", AWS
Architecture Blog, 2015); a server's ``Retry-After`` is a lower bound.
"""

from __future__ import annotations

import time
from typing import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    R = TypeVar("R")


def is_transient(error: Exception) -> bool:
    """Return True if the same request may succeed later."""
    return bool(getattr(error, "transient", False))


def asked(error: Exception) -> float:
    """Return the seconds that the server asks to wait."""
    return getattr(error, "retry_after", None) or 0.0


def patience(error: Exception) -> float:
    """Return for how many more seconds waits and retries are worth it."""
    found = getattr(error, "patience", None)
    return float("inf") if found is None else found


class Policy(NamedTuple):
    """Which failures are retried, how often, and after which waits (all in seconds)."""

    #: Further calls after the first; a callable is asked at the first failure alone.
    retries: int | Callable[[], int] = 0
    first: float = 0.25
    longest: float = 20.0
    #: The longest ``Retry-After`` that is honoured: a server that asks for more has failed.
    longest_asked: float = 120.0
    transient: Callable[[Exception], bool] = is_transient
    #: Stand-ins for `time.sleep` and `random.uniform`.
    sleep: Callable[[float], object] | None = None
    uniform: Callable[[float, float], float] | None = None

    def may_help(self, error: Exception) -> bool:
        """Return True if a failure is worth a retry."""
        passes = self.transient(error) and patience(error) > 0
        return passes and asked(error) <= self.longest_asked

    def following(self, wait: float) -> float:
        """Return the wait that follows one; the very first follows `first`."""
        import random  # it loads hashlib, and nothing has failed yet

        return min(self.longest, (self.uniform or random.uniform)(self.first, wait * 3))

    def pause(self, seconds: float) -> None:
        """Sleep."""
        (self.sleep or time.sleep)(seconds)

    def call(self, action: Callable[[], R]) -> R:
        """Call an action until it succeeds, fails for good or has failed too often."""
        wait, left = self.first, self.retries
        while True:
            try:
                return action()
            except Exception as error:
                left = left() if callable(left) else left
                if left <= 0 or not self.may_help(error):
                    raise
                left -= 1
                lower_bound, longest = asked(error), patience(error)
            wait = self.following(wait)
            self.pause(min(max(wait, lower_bound), longest))


#: The policy of everything that has no reason for another one.
POLICY = Policy()


def retry_after(text: str | None, now: float | None = None) -> float | None:
    """Read a ``Retry-After`` header, seconds or an HTTP date; None if absent or malformed."""
    text = (text or "").strip()
    if text.isascii() and text.isdigit():
        return float(text)
    from email.utils import parsedate_to_datetime

    try:
        moment = parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError):
        return None
    return max(0.0, moment - (time.time() if now is None else now))
