"""When each site was last online, for the operator; nothing depends on it, so it is not in the log."""

import json
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from fedcall.files import write_text

_EVERY_SECONDS = 15.0


class LastSeen:
    """Keeps `STATE/presence.json`: the second since 1970 at which each site was last online."""

    def __init__(self, state: Path) -> None:
        self._state = Path(state)
        self._seen = last_seen(state)
        self._online: set[str] = set()
        self._written = 0.0

    def note(self, online: Iterable[str]) -> None:
        """Take note of the sites that are online now; written when they change, and every 15 s while there are any."""
        found = set(online)
        now = time.time()
        self._seen |= dict.fromkeys(found | self._online, int(now))
        if found != self._online or (found and now - self._written > _EVERY_SECONDS):
            self._online, self._written = found, now
            with suppress(OSError):  # a full disk; not worth stopping for
                write_text(self._state / "presence.json", json.dumps(self._seen))


def last_seen(state: Path) -> dict[str, int]:
    """Return the second since 1970 at which each site was last online; sites never seen are missing."""
    try:
        found = json.loads((Path(state) / "presence.json").read_bytes())
    except (OSError, ValueError):
        return {}
    return {str(site): int(seconds) for site, seconds in found.items()}
