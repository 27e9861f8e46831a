"""`fedcall privacy`: what a study costs before anything is trained."""

from pathlib import Path

import typer

from fedcall.cli.printing import say_block
from fedcall.errors import FedcallError

privacy = typer.Typer(help="Plan what a study spends.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add `fedcall privacy plan`."""
    app.add_typer(privacy, name="privacy")


@privacy.callback()
def _group() -> None:
    pass


@privacy.command()
def plan(
    study: Path = typer.Option(..., "--study", help="Study terms (.yaml, may be incomplete) or signed study (.json)."),
    target_epsilon: float | None = typer.Option(
        None,
        "--target-epsilon",
        help="Also print the noise multiplier, the sampling rate and the rounds that cost this much in all: each"
        " alone, the other terms as they are.",
    ),
    family: int = typer.Option(
        1, "--family", min=1, max=100, help="Also print the epsilon of this many units together; 2 and 3 always are."
    ),
    rows: list[int] = typer.Option(
        None,
        "--rows",
        min=1,
        help="Unit 'example': also print what a patient with this many rows gets, for example the median and the"
        " largest number. May be repeated; public numbers only, the plan is shared. Default: the declared"
        " examples_per_patient.",
    ),
    plot: Path | None = typer.Option(None, "--plot", help="Also draw epsilon against rounds (.svg or .png)."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON instead of a table."),
) -> None:
    """Print the epsilon of a study, per round and in total, by PLD and by RDP.

    The numbers follow from the terms alone: no data, no keys, no network. PLD is the tighter bound and the one that
    caps are compared with; RDP is an independent check. Under unit 'example' an epsilon is one row's, and a patient's
    follows from the number of rows. Where sites share the noise, it also prints what holds against one of the
    hospitals, and what is left if coordinator and helpers break the promise of the mode together.

    Example: fedcall privacy plan --study config/study.yaml --target-epsilon 3
    """
    from fedcall.privacy.accounting.plan import as_text, plan_study
    from fedcall.study.terms import read_study_terms

    terms = read_study_terms(study)
    if target_epsilon is not None and not target_epsilon > 0:
        raise FedcallError(f"--target-epsilon {target_epsilon:g}: must be above 0")
    if rows and terms.privacy.unit == "patient":
        raise FedcallError("--rows: belongs to unit 'example'; unit 'patient' protects all rows of a patient together")
    if plot and plot.suffix not in (".svg", ".png"):
        raise FedcallError(f"--plot {plot}: must end in .svg or .png")
    declared = terms.privacy.examples_per_patient
    of_patients = rows or ([declared] if declared else [])
    result = plan_study(terms.name, terms.privacy, terms.rounds, target_epsilon, family, of_patients, terms.pool)
    if plot:
        from fedcall.privacy.accounting.plan_plot import draw_plan

        draw_plan(result, plot)
    say_block(result.model_dump_json(indent=2) if as_json else as_text(result))


@privacy.command("judge")
def judge(
    gain: float = typer.Option(0.01, "--gain", help="Gain in F1 that is to be seen."),
    epsilons: list[float] = typer.Option([0.1, 0.3, 1.0], "--epsilon", help="Per held-out patient; may be repeated."),
    clips: list[float] = typer.Option([0.02, 0.05, 0.1], "--clip", help="Bound on a patient; may be repeated."),
    sites: int = typer.Option(9, "--sites", min=1, help="Hospitals, with as many held-out patients each."),
    spread: float = typer.Option(
        0.02, "--spread", help="Standard deviation of people's differences, if none are given."
    ),
    before: list[Path] = typer.Option(
        [],
        "--before",
        help="Concordance of a real person with the first model's calls: people then differ as these do.",
    ),
    after: list[Path] = typer.Option([], "--after", help="The same people's with the final model's calls."),
    power: float = typer.Option(0.8, "--power", min=0.05, max=0.99, help="Wanted chance to see the gain."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON instead of a table."),
) -> None:
    """Print how many held-out patients the private judge needs to see a gain, by simulation.

    Seen means: the 95 % interval of `fedcall fetch-verdict`, which counts noise and sampling of patients, lies above 0.
    Concordances must be of people whose data is public, or the result stays at the site.

    Example: fedcall privacy judge --gain 0.01 --epsilon 0.3 --clip 0.05 --sites 9 --spread 0.02
    """
    from fedcall.experiments.judge_power import Question, as_text, paired_differences, power_rows

    if not 0 < gain <= 1 or not spread >= 0:
        raise FedcallError("--gain must be in (0, 1], and --spread not below 0")
    differences = paired_differences(before, after)
    question = Question(gain, spread, sites, differences, power)
    rows = power_rows(question, epsilons, clips)
    if as_json:
        import json

        say_block(json.dumps([row.model_dump() for row in rows], indent=2))
        return
    say_block(as_text(question, rows))
