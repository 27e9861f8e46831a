"""Draw the graph of rules as inline SVG: a row per level, downwards; dashed where one round leads into the next."""

from collections import defaultdict
from collections.abc import Sequence
from html import escape

from fedcall.shown import shown
from snakemake_report_plugin_privacy.documents import Edge, RuleRun

WIDTH, BOX_HEIGHT, ROW = 860, 26, 58  # in units of the SVG's view box
CHARACTER = 7.2  # width of one, at 12 px


def draw(rules: Sequence[RuleRun], edges: Sequence[Edge]) -> str:
    """Return the SVG of the rules and of who reads from whom."""
    rows: dict[int, list[RuleRun]] = defaultdict(list)
    for rule in rules:
        rows[rule.level].append(rule)
    centres = {
        rule.rule: (WIDTH * (2 * place + 1) / (2 * len(row)), ROW * line + BOX_HEIGHT)
        for line, (_, row) in enumerate(sorted(rows.items()))
        for place, rule in enumerate(row)
    }
    drawn = [
        _edge(centres[edge.before], centres[edge.after]) for edge in edges if {edge.before, edge.after} <= set(centres)
    ]
    drawn += [_box(rule, *centres[rule.rule]) for rule in rules]
    height = ROW * len(rows) + BOX_HEIGHT // 2
    return (
        f'<svg class="rules" viewBox="0 0 {WIDTH} {height}" role="img"'
        f' aria-label="Graph of {len(rules)} rules">{"".join(drawn)}</svg>'
    )


def _box(rule: RuleRun, x: float, y: float) -> str:
    name = shown(rule.rule, 80)
    text = f"{name} ×{rule.jobs}" if rule.jobs > 1 else name
    width = CHARACTER * len(text) + 14
    return (
        f'<rect x="{x - width / 2:.1f}" y="{y - BOX_HEIGHT / 2:.1f}" width="{width:.1f}" height="{BOX_HEIGHT}" rx="4"/>'
        f'<text x="{x:.1f}" y="{y + 4:.1f}">{escape(text)}</text>'
    )


def _edge(start: tuple[float, float], end: tuple[float, float]) -> str:
    (x1, y1), (x2, y2) = start, end
    if y2 > y1:
        bend = (y2 - y1) / 2
        return f'<path d="M{x1:.1f} {y1:.1f}C{x1:.1f} {y1 + bend:.1f} {x2:.1f} {y2 - bend:.1f} {x2:.1f} {y2:.1f}"/>'
    side = max(x1, x2) + 110  # back up, around the boxes
    return f'<path class="back" d="M{x1:.1f} {y1:.1f}C{side:.1f} {y1:.1f} {side:.1f} {y2:.1f} {x2:.1f} {y2:.1f}"/>'
