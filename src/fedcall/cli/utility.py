"""`fedcall utility`."""

from pathlib import Path

import typer

from fedcall.cli.printing import say_block
from fedcall.errors import FedcallError


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("utility")(utility)


def utility(
    study: Path = typer.Option(..., "--study", help="Study terms (.yaml, may be incomplete) or signed study (.json)."),
    epsilon: float | None = typer.Option(
        None, "--epsilon", help="Total to train at, 'inf' for no noise; left out, the study's own noise."
    ),
    seed: int = typer.Option(1, "--seed", min=0, help="Of sampling and noise; same seed, same result."),
    samples: Path = typer.Option(..., "--samples", help="Sheet of people; all must have 'no' in column 'private'."),
    reference: Path = typer.Option(..., "--reference", help="Reference FASTA, indexed."),
    results: Path = typer.Option(
        ..., "--results", help="Folder with SITE/examples and SITE/labels of these people, as the workflow makes them."
    ),
    initial: Path = typer.Option(..., "--initial", help="First global model, made by 'fedcall train-public'."),
    output: Path = typer.Option(..., "--output", help="JSON to write: one point for 'fedcall report utility'."),
    as_json: bool = typer.Option(False, "--json", help="Print the JSON instead of a table."),
) -> None:
    """Train a study in this process at one epsilon and score the model: what does privacy cost in accuracy?

    The functions that train and average a real study are used, without its network. People whose data is private are
    refused (exit 3), for nothing is charged to a ledger. Points side by side make the page of 'fedcall report utility'.

    Example: fedcall utility --study config/study.yaml --epsilon 3 --samples resources/cohort/samples.tsv --reference
    resources/cohort/reference.fa --results results/demo --initial results/demo/initial.safetensors --output point.json
    """
    if epsilon is not None and not epsilon > 0:
        raise FedcallError(f"--epsilon {epsilon:g}: must be positive; 'inf' trains without noise")

    from fedcall.experiments.cohort import open_cohort
    from fedcall.study.terms import read_study_terms

    terms, cohort = read_study_terms(study), open_cohort(samples, reference, results)

    from fedcall.experiments.sweep import utility_point
    from fedcall.federation.aggregator.aggregation import quiet_flower
    from fedcall.files import write_text
    from fedcall.model.caller import load_model
    from fedcall.reporting.utility.report import point_table

    quiet_flower()
    point = utility_point(terms, epsilon, cohort, load_model(initial), seed)
    text = point.model_dump_json()
    write_text(output, text + "\n")
    say_block(text if as_json else point_table(point))
