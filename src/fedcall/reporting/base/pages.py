"""Turn a report document into one self-contained HTML page and into JSON.

Templates may show a number only through `show(path)`, which reads it from the document's JSON and marks it with that
path, so that a page cannot say anything the JSON does not. All text of a document goes through `fedcall.shown`: names,
reasons and sentences come from other hospitals, from VCF files and from paths.
"""

import json
import math
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from pathlib import Path
from typing import Any, Literal

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from fedcall import __version__
from fedcall.documents import Document
from fedcall.files import write_text
from fedcall.shown import shown, shown_block

Style = Literal[
    "text",
    "short",
    "time",
    "epsilon",
    "optional",
    "cap",
    "delta",
    "digits",
    "lower",
    "percent",
    "number",
    "odds",
    "belief",
    "figure",
    "signed",
    "phred",
]

TEXT_CHARACTERS = 2000
"""The most that a page shows of one text: more than any sentence of ours, and not so much that a name fills a page."""

SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def write_report(document: Document, template: str, html: Path, json_path: Path, figures: dict[str, str]) -> None:
    """Write a report as HTML and as JSON, both atomically.

    Parameters
    ----------
    document : Document
        Every number of the report.
    template : str
        Name of the template beside this module.
    html, json_path : Path
        Where to write.
    figures : dict of str to str
        Inline SVG by name, drawn from `document`.
    """
    page, numbers = render(document, template, figures), to_json(document)
    write_text(json_path, numbers)
    write_text(html, page)


def to_json(document: Document) -> str:
    """Return the JSON form of a report: sorted keys, indented, no NaN or infinity."""
    content = document.model_dump(mode="json")
    return shown_block(json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)) + "\n"


def render(document: Document, template: str, figures: dict[str, str]) -> str:
    """Return the HTML page of a report."""
    content = document.model_dump(mode="json")

    def show(path: str, style: Style = "text") -> Markup:
        value = value_at(content, path)
        raw = "" if value is None else shown(value, TEXT_CHARACTERS)
        return Markup('<data data-path="{}" data-style="{}" value="{}">{}</data>').format(
            path, style, raw, display(value, style)
        )

    environment = Environment(
        loader=PackageLoader("fedcall.reporting.base", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_printable,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    drawn = {name: Markup(svg) for name, svg in figures.items()}  # drawn by us, text escaped by matplotlib
    page = environment.get_template(template)
    return page.render(report=content, show=show, figures=drawn, version=__version__)


def value_at(content: Any, path: str) -> Any:
    """Return the value at a dotted path (`rounds.0.epsilon_pld`) of decoded JSON."""
    for part in path.split("."):
        content = content[int(part)] if isinstance(content, list) else content[part]
    return content


def display(value: Any, style: Style) -> str:
    """Return a value as people read it; epsilons, odds and beliefs are rounded up, so as not to understate a loss."""
    if value is None:
        return {"epsilon": "unlimited", "cap": "none agreed"}.get(style, "–")
    if style in ("epsilon", "optional"):
        return round_up(value)
    if style == "short":
        return f"{shown(value[:12])}…"
    if style == "time":
        return shown(value[:16]).replace("T", " ")  # ISO 8601, always UTC
    if style == "lower":
        return round_down(value)
    if style == "delta":
        return power_of_ten(value)
    if style == "odds":
        return f"{_up(value, 1 if value < 100 else 0):,}"
    if style == "percent":
        return f"{100 * value:.3g} %"
    if style == "belief":
        return f"{_up_but_not_to_100(100 * value)} %"
    if style == "figure":
        return f"{value:.3f}"
    if style == "signed":
        return f"{value:+.3f}".replace("-", "−")
    if style == "phred":
        return f"{value:.1f}"
    if style == "digits":
        return f"{value:.4g}"
    if style in ("number", "cap"):
        return f"{value:,}" if isinstance(value, int) else f"{value:g}"
    return shown(value, TEXT_CHARACTERS).replace(" = ", "\u00a0=\u00a0")  # kept on one line


def round_up(epsilon: float) -> str:
    """Return an epsilon with two decimals (three digits below 0.01), never smaller than it is.

    Examples
    --------
    >>> round_up(2.921), round_up(0.001234)
    ('2.93', '0.00124')
    """
    places = Decimal("0.01")
    if 0 < epsilon < 0.01:
        places = Decimal(10) ** (math.floor(math.log10(epsilon)) - 2)
    return format(Decimal(repr(float(epsilon))).quantize(places, ROUND_CEILING), "f")


def round_down(epsilon: float) -> str:
    """Return a lower bound with two decimals, never larger than it is."""
    return format(Decimal(repr(float(epsilon))).quantize(Decimal("0.01"), ROUND_FLOOR), "f")


def power_of_ten(value: float) -> str:
    """Return a small probability as `10⁻³` or `1.5 × 10⁻³`.

    Examples
    --------
    >>> power_of_ten(0.0015)
    '1.5 × 10⁻³'
    """
    mantissa, exponent = f"{value:.2e}".split("e")
    power = f"10{str(int(exponent)).translate(SUPERSCRIPT)}"
    short = mantissa.rstrip("0").rstrip(".")
    return power if short == "1" else f"{short} × {power}"


def _printable(value: Any) -> Any:
    """Return what a template puts out: text of the document on one line, bounded; markup is ours."""
    return shown(value, TEXT_CHARACTERS) if isinstance(value, str) and not isinstance(value, Markup) else value


def _up(value: float, decimals: int) -> Decimal:
    return Decimal(repr(float(value))).quantize(Decimal(10) ** -decimals, ROUND_CEILING)


def _up_but_not_to_100(percent: float) -> str:
    """Return a percentage rounded up, with as many decimals as it takes to keep it apart from 100."""
    for decimals in range(1, 12):
        rounded = _up(percent, decimals)
        if rounded < 100 or percent == 100:
            break
    return format(rounded, "f")
