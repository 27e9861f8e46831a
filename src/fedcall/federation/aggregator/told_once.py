"""Say a thing once: a folder that anybody may fill must not fill the log."""

import logging

from fedcall.shown import shown

log = logging.getLogger("fedcall.aggregator")

_MOST = 100


class ToldOnce:
    """What was logged about a site since the start."""

    def __init__(self, site: str) -> None:
        self._site = site
        self._told: set[str] = set()

    def tell(self, sentence: str) -> None:
        """Log a sentence, unless it was logged before, or very many others were."""
        if sentence not in self._told and len(self._told) < _MOST:
            self._told.add(sentence)
            log.warning("site %s: %s", self._site, shown(sentence, 500))
