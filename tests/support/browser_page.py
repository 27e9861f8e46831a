"""A report as the browser tests open it."""

from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import ViewportSize

from fedcall.documents import Document

DESKTOP: ViewportSize = {"width": 1280, "height": 900}


@dataclass(frozen=True)
class Page:
    """A report on disk and the document it shows."""

    path: Path
    document: Document

    @property
    def address(self) -> str:
        """What a person would open."""
        return self.path.absolute().as_uri()
