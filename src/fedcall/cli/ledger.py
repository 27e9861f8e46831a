"""`fedcall ledger`: look at the record of what was spent."""

from pathlib import Path

import typer

from fedcall.cli.printing import say, say_block
from fedcall.errors import PrivacyRefusal

ledger = typer.Typer(help="Look at a site's record of every release.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add `fedcall ledger show|verify|plan`."""
    app.add_typer(ledger, name="ledger")


@ledger.command()
def show(
    path: Path = typer.Option(..., "--ledger", help="The site's ledger (private/SITE/ledger.sqlite)."),
    delta: float | None = typer.Option(
        None, "--delta", min=0.0, max=1.0, help="Delta of the epsilons; default: the smallest of any study there."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print JSON instead of tables."),
) -> None:
    """Show what was charged, released and withheld, and what it adds up to for the most exposed patients.

    Patients are counted, never named. An epsilon "per patient" protects everything of one person; after releases whose
    unit was one example it is infinite, and only the epsilon "per example" says something.

    Example: fedcall ledger show --ledger private/north/ledger.sqlite
    """
    from fedcall.privacy.ledger.ledger import Ledger
    from fedcall.privacy.ledger.summary import as_text, summarise

    with Ledger.open_to_read(path) as opened:
        summary = summarise(opened, delta)
    say_block(summary.model_dump_json(indent=2) if as_json else as_text(summary))
    if summary.fault:
        raise PrivacyRefusal(f"{path}: {summary.fault}; restore its newest backup")


@ledger.command()
def verify(
    path: Path = typer.Option(..., "--ledger", help="The site's ledger (private/SITE/ledger.sqlite)."),
    keys: Path | None = typer.Option(
        None, "--keys", help="The site's key folder: also check that this site wrote every row."
    ),
) -> None:
    """Check that no row was edited, deleted or cut off; name the first bad one and exit 3 otherwise.

    Example: fedcall ledger verify --ledger private/north/ledger.sqlite --keys private/north/keys
    """
    from fedcall.keys import read_secret
    from fedcall.privacy.ledger.ledger import Ledger

    with Ledger.open_to_read(path, read_secret(keys) if keys else None) as opened:
        fault = opened.verify()
        if fault:
            raise PrivacyRefusal(f"{path}: {fault.sentence}; restore its newest backup")
        count = sum(1 for _ in opened.rows())
        say(f"{path}: {count} rows, as they were written (head {opened.head[:16]}…)")


@ledger.command()
def plan(
    path: Path = typer.Option(..., "--ledger", help="The site's ledger (private/SITE/ledger.sqlite)."),
    study: Path = typer.Option(..., "--study", help="Study terms (.yaml, may be incomplete) or signed study (.json)."),
    shareable: bool = typer.Option(
        False, "--shareable", help="What it costs anybody at most, and nothing of the hospital's own people."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print JSON instead of a table."),
) -> None:
    """Show what is left for the patients of a ledger under a study's cap, and how many of its rounds still fit.

    Before the study's first round every patient in the ledger is listed, because any may take part; afterwards those
    it has charged. Patients are counted, never named. The table stays at the hospital, but for that of --shareable.

    Example: fedcall ledger plan --ledger private/north/ledger.sqlite --study study.json
    """
    from fedcall.privacy.ledger.ledger import Ledger
    from fedcall.privacy.ledger.plan import as_text, plan_ledger, shareable_plan
    from fedcall.study.terms import read_study_terms

    terms = read_study_terms(study)
    with Ledger.open_to_read(path) as opened:
        fault = opened.verify()
        if fault:
            raise PrivacyRefusal(f"{path}: {fault.sentence}; restore its newest backup")
        make = shareable_plan if shareable else plan_ledger
        result = make(opened, terms.name, terms.digest, terms.privacy, terms.rounds, terms.noise_shares)
    say_block(result.model_dump_json(indent=2) if as_json else as_text(result))
