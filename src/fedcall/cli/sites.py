"""Commands that act for one site, or in a rehearsal for several: `{site}` in paths is replaced by each."""

from collections.abc import Iterator
from pathlib import Path

from fedcall.errors import FedcallError


def each_site(sites: list[str], *paths: Path) -> Iterator[tuple[str, list[Path]]]:
    """Yield each site with its own paths, `{site}` in them replaced by its name.

    Raises
    ------
    FedcallError
        If several sites would share a path.
    """
    if len(sites) > 1:
        for path in paths:
            if "{site}" not in str(path):
                raise FedcallError(f"{path}: several sites need a path each; write {{site}} where the name belongs")
    for site in sites:
        yield site, [for_site(path, site) for path in paths]


def for_site(path: Path, site: str) -> Path:
    """Return a site's own path."""
    return Path(str(path).replace("{site}", site))
