"""The budget gauge as inline SVG."""

import math

from markupsafe import escape

from fedcall.shown import shown


def gauge(spent: float | None, cap: float | None, spent_text: str, title: str) -> str:
    """Draw the share of the agreed budget that is spent, as a half circle."""
    share = 1.0 if spent is None or not cap else min(1.0, spent / cap)
    angle = math.pi * (1 - share)
    end_x, end_y = 110 + 90 * math.cos(angle), 105 - 90 * math.sin(angle)
    ticks = "".join(
        f'<line x1="{110 + 74 * math.cos(a):.2f}" y1="{105 - 74 * math.sin(a):.2f}" x2="{110 + 68 * math.cos(a):.2f}"'
        f' y2="{105 - 68 * math.sin(a):.2f}" stroke="currentColor" stroke-width="1"/>'
        for a in (math.pi * step / 4 for step in range(5))
    )
    arc = f'<path d="M20 105 A90 90 0 0 1 {end_x:.2f} {end_y:.2f}" class="spent"/>' if share > 0 else ""
    limit = f"of {cap:g} allowed" if cap is not None else "no cap agreed"
    ends = f'<text x="20" y="126">0</text><text x="200" y="126">{cap:g}</text>' if cap is not None else ""
    return (
        f'<svg class="gauge" viewBox="0 0 220 132" role="img" aria-label="{escape(shown(title))}">'
        f'<path d="M20 105 A90 90 0 0 1 200 105" class="whole"/>{arc}{ticks}'
        f'<text x="110" y="88" class="big">{escape(shown(spent_text))}</text>'
        f'<text x="110" y="106">{limit}</text>{ends}</svg>'
    )
