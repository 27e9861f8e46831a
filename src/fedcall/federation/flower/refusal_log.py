"""What the gate logs of refused requests: enough to see who tries, never enough to fill a disk."""

import logging
import time
from collections import Counter
from collections.abc import Callable

from fedcall.shown import shown

_PATH_CHARACTERS = 80  # of a path in the log; the longest that is served has 40
_REFUSALS_TOLD = 20  # per address and minute, each with a line of the log; the rest is counted
_REFUSALS_TOLD_IN_ALL = 200
_MINUTE_SECONDS = 60.0

log = logging.getLogger(__name__)


class RefusalLog:
    """Tells of refusals in the log, a few of each address and minute; the rest is counted."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since = clock()
        self._told: Counter[str] = Counter()
        self._untold = 0

    def tell(self, address: str, path: str, status: int, reason: str) -> None:
        """Log one refusal, if its address has not been told of enough."""
        now = self._clock()
        if now - self._since > _MINUTE_SECONDS:
            if self._untold:
                log.warning("%d more requests were refused within a minute", self._untold)
            self._since, self._untold = now, 0
            self._told.clear()
        if self._told[address] >= _REFUSALS_TOLD or self._told.total() >= _REFUSALS_TOLD_IN_ALL:
            self._untold += 1
            return
        self._told[address] += 1
        log.info("%s %s: %d %s", shown(address, 60), shown(path, _PATH_CHARACTERS), status, reason)
