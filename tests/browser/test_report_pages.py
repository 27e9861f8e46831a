"""The reports in a browser: they open from a file, fit the screen and the paper, and work without a mouse."""

import io
import re
import unicodedata
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser
from playwright.sync_api import Page as Tab
from pypdf import PdfReader

from browser_page import DESKTOP, Page

NAMES = ("site", "adaptive", "study", "evaluation", "dashboard", "audit", "utility", "comparison")
HOSTILE_NAMES = tuple(f"hostile-{name}" for name in (*NAMES, "dossier"))
PAPER_PIXELS = 680  # A4 less its margins, at 96 pixels to the inch
WITHOUT_WORDS = """() => [...document.querySelectorAll("svg, img")].filter(picture => {
  if (picture.closest("svg") !== picture && picture.parentElement.closest("svg")) return false;
  if (picture.getAttribute("aria-label") || picture.getAttribute("alt")) return false;
  return !(picture.closest("figure")?.querySelector("figcaption")?.textContent.trim().length > 20);
}).length"""
COPIED_TABLE = """() => {
  getSelection().selectAllChildren(document.querySelector("table:has(button)"));
  return getSelection().toString();
}"""
TABLES = """() => [...document.querySelectorAll("table:has(thead)")]
  .map(table => [table.tHead.rows[0].cells, table.tBodies[0].rows].map(all => [...all].map(one => one.textContent)))"""
WIDER_THAN_PAPER = """width => [...document.querySelectorAll("table, svg, figure, pre")]
  .filter(one => one.getBoundingClientRect().right > width + 1).map(one => one.outerHTML.slice(0, 80))"""


@pytest.fixture(params=NAMES)
def report(request: pytest.FixtureRequest, pages: dict[str, Page]) -> Page:
    return pages[request.param]


@pytest.fixture
def tab(browser: Browser, report: Page) -> Iterator[Tab]:
    tab = browser.new_page(viewport=DESKTOP)
    tab.goto(report.address)
    yield tab
    tab.close()


def test_report_page__opens_without_errors_and_without_a_network(browser: Browser, report: Page) -> None:
    tab = browser.new_page(viewport=DESKTOP)
    complaints: list[str] = []
    addresses: list[str] = []
    tab.on("console", lambda message: complaints.append(message.text) if message.type in ("error", "warning") else None)
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    tab.on("request", lambda request: addresses.append(request.url))
    tab.goto(report.address)
    tab.close()
    assert complaints == []
    assert addresses == [report.address]


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_report_page__hostile_text_runs_nothing_and_hides_nothing(
    browser: Browser, pages: dict[str, Page], name: str
) -> None:
    report = pages[name]
    tab = browser.new_page(viewport=DESKTOP)
    complaints: list[str] = []
    addresses: list[str] = []
    tab.on("console", lambda message: complaints.append(message.text) if message.type in ("error", "warning") else None)
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    tab.on("request", lambda request: addresses.append(request.url))
    tab.goto(report.address)
    heading = tab.locator("th button").first
    heading.click()
    found = (tab.title(), tab.locator("img").count(), tab.locator("script").count(), tab.locator("footer").count())
    wide = tab.evaluate("document.documentElement.scrollWidth")
    text = tab.locator("body").inner_text()
    tab.close()
    assert (complaints, addresses) == ([], [report.address])
    assert "owned" not in found[0].split("<")[0]
    assert found[1:] == (0, 1, 1)
    assert wide <= DESKTOP["width"]
    assert {one for one in text if not one.isprintable()} <= {"\n", "\t", "\u00a0", "\u202f"}


@pytest.mark.parametrize("width", [1280, 390])
def test_report_page__never_scrolls_sideways(tab: Tab, width: int) -> None:
    tab.set_viewport_size({"width": width, "height": 800})
    assert tab.evaluate("document.documentElement.scrollWidth") <= width


def test_report_page__every_picture_is_told_in_words(tab: Tab) -> None:
    assert tab.locator("svg").count() > 0
    assert tab.evaluate(WITHOUT_WORDS) == 0


def test_report_page__tables_sort_by_keyboard(tab: Tab) -> None:
    heading = tab.locator("th button").first
    for _ in range(60):
        tab.keyboard.press("Tab")
        if heading.evaluate("button => button === document.activeElement"):
            break
    cells = heading.locator("xpath=ancestor::table").locator("tbody tr > :first-child")
    tab.keyboard.press("Enter")
    up = cells.all_inner_texts()
    tab.keyboard.press("Space")
    assert heading.locator("xpath=ancestor::th").get_attribute("aria-sort") == "descending"
    assert cells.all_inner_texts() == up[::-1]
    assert len(set(up)) > 1


def test_report_page__tables_copy_as_columns(tab: Tab) -> None:
    text = tab.evaluate(COPIED_TABLE)
    assert len({line.count("\t") for line in text.splitlines() if "\t" in line}) == 1


def test_report_page__nothing_is_cut_off_on_paper(tab: Tab, report: Page) -> None:
    paper = PdfReader(io.BytesIO(tab.pdf(format="A4", prefer_css_page_size=True)))
    written = _letters("".join(page.extract_text() for page in paper.pages))
    shown = map(_letters, tab.locator("td data, th data").all_text_contents())
    assert [text for text in shown if text not in written] == []
    tab.emulate_media(media="print")
    tab.set_viewport_size({"width": PAPER_PIXELS, "height": 1000})
    assert tab.evaluate(WIDER_THAN_PAPER, PAPER_PIXELS) == []


def test_report_page__a_table_on_paper_has_its_heading_on_every_page(tab: Tab) -> None:
    paper = PdfReader(io.BytesIO(tab.pdf(format="A4", prefer_css_page_size=True)))
    pages = [_letters(page.extract_text()) for page in paper.pages]
    for heading, rows in tab.evaluate(TABLES):
        labels = [_letters(label) for label in heading]
        for row in map(_letters, rows):
            assert any(row in page and all(label in page for label in labels) for page in pages), row


def test_report_page__reads_in_the_dark(browser: Browser, report: Page) -> None:
    tab = browser.new_page(viewport=DESKTOP, color_scheme="dark")
    tab.goto(report.address)
    ink, paper = tab.evaluate(
        "() => ['color', 'backgroundColor'].map(key => getComputedStyle(document.documentElement)[key])"
    )
    tab.close()
    assert _lightness(ink) - _lightness(paper) > 0.6


def _letters(text: str) -> str:
    """Text without spaces and ligatures, which paper breaks and joins as it likes."""
    return re.sub(r"\s+", "", unicodedata.normalize("NFKC", text))


def _lightness(colour: str) -> float:
    return sum(map(int, re.findall(r"\d+", colour)[:3])) / 765
