"""A plan as a picture: epsilon against rounds by both accountants, distinguishable without colour."""

from pathlib import Path

from fedcall.files import atomic_path
from fedcall.privacy.accounting.plan import Plan


def draw_plan(plan: Plan, path: Path) -> None:
    """Write the picture to `path` (.svg or .png); infinite epsilons are left out."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    axes = figure.add_subplot()
    for name, color, style, marker in (("PLD", "#0072b2", "-", "o"), ("RDP", "#d55e00", "--", "s")):
        points = [(cost.rounds, getattr(cost, name.lower())) for cost in plan.cumulative]
        finite = [(rounds, epsilon) for rounds, epsilon in points if epsilon is not None]
        if not finite:
            continue
        every = max(1, len(finite) // 12)
        axes.plot(*zip(*finite, strict=True), color=color, linestyle=style, marker=marker, markevery=every)
        axes.annotate(name, finite[-1], xytext=(6, 0), textcoords="offset points", va="center")
    if plan.max_epsilon is not None:
        axes.axhline(plan.max_epsilon, color="black", linestyle=":", linewidth=1)
        axes.annotate(
            f"cap {plan.max_epsilon:g}", (1, plan.max_epsilon), xytext=(0, 3), textcoords="offset points", va="bottom"
        )
    axes.set_title(f"{plan.study}: epsilon per {plan.unit} at delta {plan.delta:g}", fontsize=10)
    axes.set_xlabel("rounds")
    axes.set_ylabel(f"cumulative epsilon per {plan.unit} (nats)")
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.spines[["top", "right"]].set_visible(False)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format=path.suffix[1:], metadata={"Date": None} if path.suffix == ".svg" else None)
