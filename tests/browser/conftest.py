"""Real pages in a real browser. Without one, these tests skip and say so."""

import shutil
import sys
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Playwright, TimeoutError, sync_playwright

from browser_page import Page
from fedcall.reporting.base.pages import write_report
from hostile_text import poisoned
from made_reports import Made, made_reports

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
STARTS = 3  # of the browser: on a busy machine one start in very many hangs
SECONDS_PER_START = 100


def _launch(playwright: Playwright, executable: str) -> Browser | None:
    """The browser; None where it hangs at every start."""
    for _ in range(STARTS):
        try:
            return playwright.chromium.launch(
                executable_path=executable, args=["--no-sandbox"], timeout=1000 * SECONDS_PER_START
            )
        except TimeoutError as error:
            print(f"{executable} hung while it started; once more: {error}", file=sys.stderr)
    return None


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium of the system, without a window."""
    executable = next(filter(None, map(shutil.which, BROWSERS)), None)
    if executable is None:
        pytest.skip(f"no browser ({', '.join(BROWSERS)}); on Debian: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = _launch(playwright, executable)
        if browser is None:
            pytest.skip(f"{executable} hung at each of {STARTS} starts of {SECONDS_PER_START} s")
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Page]:
    """Every kind of page; and, named `hostile-…`, the same with hostile text in every field."""
    folder = tmp_path_factory.mktemp("pages")
    made = made_reports(folder)
    made |= {f"hostile-{name}": Made(poisoned(one.document), one.template, one.draw) for name, one in made.items()}
    written = {}
    for name, one in made.items():
        path = folder / f"page-{name}.html"
        write_report(one.document, one.template, path, path.with_suffix(".json"), one.draw(one.document))
        written[name] = Page(path, one.document)
    return written
