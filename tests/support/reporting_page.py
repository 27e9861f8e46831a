"""Read the values a report page shows, with the place in the JSON each one names."""

from html.parser import HTMLParser
from typing import Any

from fedcall.reporting.base.pages import display, value_at


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.shown: list[tuple[dict[str, str | None], str]] = []
        self.ids: list[str] = []
        self._open: dict[str, str | None] | None = None
        self._text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if found.get("id"):
            self.ids.append(str(found["id"]))
        if tag == "data":
            self._open, self._text = found, ""

    def handle_data(self, data: str) -> None:
        self._text += data

    def handle_endtag(self, tag: str) -> None:
        if tag == "data" and self._open is not None:
            self.shown.append((self._open, self._text))
            self._open = None


def shown_values(page: str, content: Any) -> set[str]:
    """Check that every shown value is the one in the JSON `content`; return the paths shown."""
    parsed = _Page()
    parsed.feed(page)
    assert parsed.shown
    assert len(parsed.ids) == len(set(parsed.ids))
    for attributes, text in parsed.shown:
        path, style = str(attributes["data-path"]), attributes["data-style"]
        value = value_at(content, path)
        assert attributes["value"] == ("" if value is None else str(value)), path
        assert text == display(value, style), path  # type: ignore[arg-type]
        if isinstance(value, float) and style not in ("delta", "odds"):
            number = float(text.split("\u202f")[0].removesuffix(" %").replace(",", "").replace("−", "-"))
            scale = 100 if style in ("belief", "percent") else 1
            coarse = {"belief": 0.1, "percent": 0.06, "phred": 0.06}.get(str(style), 0.01)
            assert abs(number - scale * value) <= max(coarse, 1e-5 * value), path
            assert style not in ("epsilon", "belief") or number >= scale * value, path
    return {str(attributes["data-path"]) for attributes, _ in parsed.shown}
