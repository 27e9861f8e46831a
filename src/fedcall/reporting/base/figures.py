"""Inline SVG: plots by matplotlib. One message each, readable without colour."""

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib

matplotlib.use("svg")

from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from fedcall.reporting.base.pages import power_of_ten
from fedcall.shown import shown

# Okabe and Ito 2008, "Color Universal Design": distinguishable with every common colour blindness.
BLUE, VERMILION, GREEN, ORANGE, PURPLE = "#0072b2", "#d55e00", "#009e73", "#e69f00", "#cc79a7"
SKY, GREY = "#56b4e9", "#777777"
SERIES = ((BLUE, "o"), (VERMILION, "s"), (GREEN, "^"), (ORANGE, "D"), (PURPLE, "v"), (SKY, "P"), (GREY, "X"))
DASHES = ("-", "--", "-.", (0, (1, 1)), (0, (5, 1, 1, 1, 1, 1)))
_NAME_CHARACTERS = 40
INK = "#010203"  # replaced by the page's text colour, so that a figure follows light and dark
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # a dollar in a name is no formula
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


@dataclass(frozen=True)
class Estimate:
    """A value with its interval, for one marker."""

    value: float
    low: float
    high: float


@matplotlib.rc_context(STYLE)
def spending(
    rounds: Sequence[int],
    pld: Sequence[float],
    rdp: Sequence[float],
    planned: Sequence[tuple[int, float]],
    cap: float | None,
    unit: str,
) -> str:
    """Draw cumulative epsilon against rounds by both accountants, over the plan, with the cap."""
    figure, axes = _canvas(6.2, 3.1)
    last = max([1, *rounds, *(number for number, _ in planned)])
    axes.plot(*zip(*planned, strict=True), color=INK, alpha=0.45, linewidth=4, label="planned (PLD)")
    axes.plot(rounds, pld, color=BLUE, marker="o", markersize=4, label="PLD (the number that counts)")
    axes.plot(rounds, rdp, color=VERMILION, marker="s", markersize=4, linestyle="--", label="RDP (cross-check)")
    if cap is not None:
        axes.axhline(cap, color=INK, linewidth=1, linestyle=":")
        axes.text(last + 0.5, 1.02 * cap, f"agreed cap {cap:g}", fontsize=9, ha="right")
    axes.set_xlim(0.5, last + 0.5)
    axes.set_ylim(0, 1.15 * max([cap or 0, *rdp, *pld, *(epsilon for _, epsilon in planned), 0.1]))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("Round of this study")
    axes.set_ylabel(f"Cumulative ε per {unit} (nats)")
    figure.legend(loc="outside upper center", ncols=3, frameon=False)
    return _svg(figure, "spending")


@matplotlib.rc_context(STYLE)
def clip_norms(norms: Sequence[Sequence[float]], rounds: Sequence[int]) -> str:
    """Draw the clip norm of every step (the last of a round is where the next starts) against rounds."""
    figure, axes = _canvas(6.2, 2.6)
    for number, steps in zip(rounds, norms, strict=True):
        places = [number - 0.5 + step / (len(steps) - 1) for step in range(len(steps))]
        axes.plot(places, steps, color=BLUE, linewidth=1.6)
        axes.plot(places[0], steps[0], color=BLUE, marker="o", markersize=4)
    everything = [norm for steps in norms for norm in steps]
    axes.set_yscale("log")
    axes.set_ylim(min(everything) / 1.3, 1.3 * max(everything))
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda norm, _: f"{norm:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_xlim(min(rounds) - 0.6, max(rounds) + 0.6)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("Round (a dot where it begins)")
    axes.set_ylabel("Clip norm")
    return _svg(figure, "clipping")


@matplotlib.rc_context(STYLE)
def changes(rounds: Sequence[int], relative: Sequence[float]) -> str:
    """Draw how much each round changed the model, as a share of its size."""
    figure, axes = _canvas(6.2, 2.6)
    axes.plot(rounds, [100 * share for share in relative], color=BLUE, marker="o", markersize=4)
    axes.set_xlim(0.5, max(rounds) + 0.5)
    axes.set_ylim(0, 115 * max([*relative, 1e-6]))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("Round")
    axes.set_ylabel("Change of the model (%)")
    return _svg(figure, "changes")


@matplotlib.rc_context(STYLE)
def dots(name: str, rows: Sequence[str], series: Mapping[str, Sequence[Estimate | None]], label: str) -> str:
    """Draw one row per name and, in it, one dot with its interval per series."""
    figure, axes = _canvas(6.2, 0.7 + 0.34 * max(len(rows), 1) * max(1.0, len(series) / 1.6))
    count = max(len(series), 1)
    lows: list[float] = []
    for index, (title, estimates) in enumerate(series.items()):
        colour, marker = SERIES[index % len(SERIES)]
        offset = (index - (count - 1) / 2) * 0.62 / count
        placed = [(row + offset, estimate) for row, estimate in enumerate(estimates) if estimate is not None]
        if not placed:
            continue
        values = [estimate.value for _, estimate in placed]
        below = [max(0.0, estimate.value - estimate.low) for _, estimate in placed]
        above = [max(0.0, estimate.high - estimate.value) for _, estimate in placed]
        axes.errorbar(
            values,
            [y for y, _ in placed],
            xerr=[below, above],
            fmt=marker,
            color=colour,
            markersize=6,
            capsize=3,
            linewidth=1.4,
            label=_name(title),
        )
        lows += [estimate.low for _, estimate in placed]
    axes.set_yticks(range(len(rows)), [_name(row) for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(max(0.0, min([*lows, 0.98]) - 0.02), 1.005)
    axes.grid(axis="x", color=INK, alpha=0.12)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.set_xlabel(label)
    if len(series) > 1:
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=min(len(series), 4), frameon=False)
    return _svg(figure, name)


@matplotlib.rc_context(STYLE)
def calibration(name: str, series: Mapping[str, Sequence[tuple[float, Estimate]]]) -> str:
    """Draw the measured against the stated quality (both Phred) per caller, with intervals; the diagonal is perfect."""
    figure, axes = _canvas(5.6, 3.8)
    stated = [quality for points in series.values() for quality, _ in points]
    top = max([*stated, *(point.value for points in series.values() for _, point in points), 10.0]) * 1.05
    axes.plot([0, top], [0, top], color=INK, linewidth=1, linestyle=":", label="as stated")
    for index, ((title, points), (colour, marker)) in enumerate(zip(series.items(), SERIES, strict=False)):
        shift = (index - (len(series) - 1) / 2) * top / 90  # intervals must not hide each other
        values = [point.value for _, point in points]
        axes.errorbar(
            [quality + shift for quality, _ in points],
            values,
            yerr=[[point.value - point.low for _, point in points], [point.high - point.value for _, point in points]],
            fmt=marker,
            color=colour,
            markersize=5,
            linewidth=1,
            label=_name(title),
        )
    axes.set_xlim(0, top)
    axes.set_ylim(0, top)
    axes.set_xlabel("Stated genotype quality GQ (Phred)")
    axes.set_ylabel("Measured quality (Phred)")
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    return _svg(figure, name)


@matplotlib.rc_context(STYLE)
def against_epsilon(
    name: str,
    lines: Mapping[str, Sequence[tuple[float | None, Estimate, bool]]],
    levels: Mapping[str, float | None],
    label: str,
) -> str:
    """Draw figures with intervals against epsilon (logarithmic; None, no noise, is drawn to the right).

    A point that is marked (the third value) gets a ring. `levels` are horizontal: models that no patient trained.
    """
    figure, axes = _canvas(6.2, 3.6)
    places = _places({epsilon for points in lines.values() for epsilon, _, _ in points})
    for index, ((title, points), (colour, marker)) in enumerate(zip(lines.items(), SERIES, strict=False)):
        shift = 1.05 ** (index - (len(lines) - 1) / 2)  # intervals must not hide each other
        xs, found = [places[epsilon] * shift for epsilon, _, _ in points], [estimate for _, estimate, _ in points]
        values = [one.value for one in found]
        axes.errorbar(
            xs,
            values,
            yerr=[[max(0, one.value - one.low) for one in found], [max(0, one.high - one.value) for one in found]],
            color=colour,
            marker=marker,
            markersize=5,
            linestyle=DASHES[index % len(DASHES)],
            linewidth=1.4,
            elinewidth=1,
            capsize=3,
            label=_name(title),
        )
        marked = [place for place, (_, _, chosen) in enumerate(points) if chosen]
        axes.plot(
            [xs[place] for place in marked],
            [values[place] for place in marked],
            linestyle="",
            marker="o",
            markersize=13,
            fillstyle="none",
            color=INK,
        )
    right = max(places.values(), default=1.0) * 1.25
    low, high = axes.get_ylim()
    for level, titles in _joined(levels, (high - low) / 20):
        axes.axhline(level, color=INK, linewidth=1, linestyle=":")
        axes.text(right, level, f" {titles}", fontsize=9, va="center")
    axes.set_xscale("log")
    ticks = _ticks(places)
    axes.set_xticks([place for place, _ in ticks], [text for _, text in ticks])
    axes.minorticks_off()
    axes.set_xlim(min(places.values(), default=1.0) / 1.25, right)
    axes.set_xlabel("ε of the whole study, per unit (nats, logarithmic)")
    axes.set_ylabel(f"{label}, with 95 % interval")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, frameon=False)
    return _svg(figure, name)


@matplotlib.rc_context(STYLE)
def bounds(rows: Sequence[tuple[str, float, float]], sound: int, delta: float) -> str:
    """Draw lower and upper bound on epsilon (name, proven, claimed) per row; the first `sound` rows stand apart."""
    figure, axes = _canvas(6.2, 0.8 + 0.32 * len(rows))
    for place, (_, proven, claimed) in enumerate(rows):
        colour = VERMILION if proven > claimed else BLUE
        axes.plot([0, proven], [place, place], color=colour, linewidth=2)
        axes.plot(proven, place, color=colour, marker="o", markersize=6)
        axes.plot(claimed, place, color=INK, marker="|", markersize=14, markeredgewidth=2)
    axes.plot([], [], color=BLUE, marker="o", label="proven at least")
    axes.plot([], [], color=INK, marker="|", markersize=12, markeredgewidth=2, linestyle="", label="claimed at most")
    axes.set_yticks(range(len(rows)), [_name(name) for name, _, _ in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(0, 1.1 * max(max(proven, claimed) for _, proven, claimed in rows))
    if sound < len(rows):
        axes.axhline(sound - 0.5, color=INK, linewidth=0.6, linestyle=":")
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(f"ε (nats) at δ = {power_of_ten(delta)}")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, frameon=False)
    return _svg(figure, "bounds")


def _name(text: str) -> str:
    """Return a name that may come from outside, as a figure has room for it."""
    return shown(text, _NAME_CHARACTERS)


def _places(epsilons: set[float | None]) -> dict[float | None, float]:
    """Return where each epsilon is drawn: itself, and no noise well to the right of the largest."""
    finite = sorted(epsilon for epsilon in epsilons if epsilon is not None)
    places: dict[float | None, float] = {epsilon: epsilon for epsilon in finite}
    if None in epsilons:
        places[None] = 2.5 * finite[-1] if finite else 1.0
    return places


def _joined(levels: Mapping[str, float | None], distance: float) -> list[tuple[float, str]]:
    """Return levels with their titles; those nearer than `distance` to the one below share its line of text."""
    joined: list[tuple[float, str]] = []
    for title, level in sorted(levels.items(), key=lambda item: item[1] or 0.0):
        if level is not None and joined and level - joined[-1][0] < distance:
            joined[-1] = (joined[-1][0], f"{joined[-1][1]}, {_name(title)}")
        elif level is not None:
            joined.append((level, _name(title)))
    return joined


def _ticks(places: Mapping[float | None, float]) -> list[tuple[float, str]]:
    """Return ticks far enough apart to be read: the smallest of every crowd."""
    ticks: list[tuple[float, str]] = []
    for epsilon, place in sorted(places.items(), key=lambda item: item[1]):
        if not ticks or epsilon is None or place > 1.25 * ticks[-1][0]:
            ticks.append((place, "no noise" if epsilon is None else f"{float(f'{epsilon:.2g}'):g}"))
    return ticks


def _canvas(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasSVG(figure)
    return figure, figure.add_subplot()


def _svg(figure: Figure, name: str) -> str:
    """Return the figure as an SVG element whose ids are unique on the page and whose ink follows the page."""
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)
    text = re.sub(r'id="([^"]+)"', rf'id="{name}-\1"', text)
    text = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", text)
    text = re.sub(r'xlink:href="#([^"]+)"', rf'xlink:href="#{name}-\1"', text)
    text = re.sub(r'<svg ([^>]*?)width="[^"]*"', r'<svg aria-hidden="true" \1', text, count=1)
    text = re.sub(r'(<svg [^>]*?) height="[^"]*"', r"\1", text, count=1)
    return text.replace(INK, "currentColor").replace("'DejaVu Sans', ", "")
