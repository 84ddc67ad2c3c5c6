"""Try again what failed in passing, after waits that grow and that no two clients share.

The waits follow decorrelated jitter (M. Brooker, "Exponential Backoff And Jitter", AWS
Architecture Blog, 2015); a server's ``Retry-After`` is a lower bound.
"""

from __future__ import annotations

from ..errors import IncompleteTransferError, StoreError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    R = TypeVar("R")

#: Seconds: the first wait at most three times this, the longest wait, and the longest
#: ``Retry-After`` that is obeyed.
FIRST, LONGEST, LONGEST_ASKED = 0.1, 15.0, 60.0


def is_passing(error: Exception) -> bool:
    """Say whether the same request may succeed later."""
    if isinstance(error, IncompleteTransferError):
        return True
    return (
        isinstance(error, StoreError)
        and error.transient
        and (error.retry_after or 0.0) <= LONGEST_ASKED
    )


def retrying(
    action: Callable[[], R],
    retries: int | Callable[[], int],
    sleep: Callable[[float], object] | None = None,
) -> R:
    """Call an action until it succeeds or fails for good.

    Parameters
    ----------
    retries : int or callable
        Further calls after the first; a callable is asked at the first failure alone.
    sleep : callable, optional
        Stand-in for `time.sleep`.

    Returns
    -------
    object
        What the action returns.

    Raises
    ------
    StoreError, IncompleteTransferError
        What the last call raised.
    """
    wait = FIRST
    while True:
        try:
            return action()
        except (StoreError, IncompleteTransferError) as error:
            if callable(retries):
                retries = retries()
            if retries <= 0 or not is_passing(error):
                raise
            retries -= 1
            asked = getattr(error, "retry_after", None) or 0.0
        import random
        import time

        wait = min(LONGEST, random.uniform(FIRST, wait * 3))
        (sleep or time.sleep)(max(wait, asked))
