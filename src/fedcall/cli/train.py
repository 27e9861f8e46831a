"""`fedcall train-public` and `fedcall train-round`."""

from pathlib import Path

import typer

from fedcall.cli.printing import say
from fedcall.errors import FedcallError


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command("train-public")(train_public)
    app.command("train-round")(train_round)


def train_public(
    terms: Path = typer.Option(..., "--terms", help="Study terms (YAML): which model to make."),
    output: Path = typer.Option(..., "--output", help="Model file (safetensors) to write."),
    ledgers: list[Path] = typer.Option(
        [],
        "--ledger",
        help="A hospital's ledger, with its --keys: whoever it has charged as private is refused here, also under"
        " another name. May be given often; one that is not there yet has charged nobody.",
    ),
    keys: list[Path] = typer.Option([], "--keys", help="Key folder of each --ledger, in the same order."),
    examples: list[Path] = typer.Argument(None, help="Examples files of public patients, made by `fedcall pileup`."),
) -> None:
    """Make the initial model of a study from public patients; without any, the fresh model.

    The fresh model is the likelihood caller: training only ever corrects it. Public training is not private and
    charges no ledger, so give it data anyone may have.

    Example: fedcall train-public --terms study.yaml --output initial.safetensors public/examples/NA12878.safetensors
    """
    from fedcall.progress import progress
    from fedcall.study.terms import read_study_terms
    from fedcall.training.public import refuse_charged_people, train_on_public_examples

    model_terms = read_study_terms(terms).model
    if len(ledgers) != len(keys):
        raise FedcallError(f"{len(ledgers)} --ledger and {len(keys)} --keys: each ledger needs its key folder")
    refuse_charged_people(examples or [], list(zip(ledgers, keys, strict=True)))
    with progress("public training", unit="steps") as done:
        train_on_public_examples(model_terms, examples or [], output, done.set_total, done.advance)
    say(f"initial model  {output}   ({len(examples or [])} public patients)")


def train_round(
    study: Path = typer.Option(..., "--study", help="Signed study (study.json)."),
    site: str = typer.Option(..., "--site", help="Name of this site in the study."),
    keys: Path = typer.Option(..., "--keys", help="The site's key folder."),
    round_number: int = typer.Option(..., "--round", help="Round, from 1."),
    model: Path = typer.Option(..., "--model", help="Global model of this round, made by `fedcall fetch`."),
    ledger: Path = typer.Option(..., "--ledger", help="The site's ledger; made if there is none."),
    update: Path = typer.Option(..., "--update", help="Model update (safetensors) to write."),
    claim: Path = typer.Option(..., "--claim", help="Signed claim (JSON) to write."),
    receipts: Path | None = typer.Option(
        None,
        "--receipts",
        help="Folder of this site's rounds, N/receipt.json in it; the ledger must hold the row that the receipt of the"
        " round before names.",
    ),
    device: str = typer.Option("cpu", "--device", help="cpu, cuda, or auto (a GPU if there is one)."),
    sheet: Path | None = typer.Option(
        None,
        "--sheet",
        help="Sheet of patients: which person each one is (column 'person'), and whether private; left out, everybody"
        " is a private person of the file's name.",
    ),
    reference: Path | None = typer.Option(None, "--reference", help="Reference of the sheet's alignments."),
    examples: list[Path] = typer.Argument(None, help="Examples files, one per training patient, named after it."),
) -> None:
    """Train one round with differential privacy: charge the ledger, then write the update and its signed claim.

    Run again with the same inputs, it returns the same bytes and charges nothing. Whoever has spent the budget is left
    out, and nothing that leaves the hospital tells so. If the study's own rounds would pass its cap, nothing is
    trained; the claim says so, and the exit code is still 0.

    Example: fedcall train-round --study study.json --site north --keys private/north/keys --round 1
    --model global.safetensors --ledger private/north/ledger.sqlite --update update.safetensors --claim claim.json
    examples/*.safetensors
    """
    from fedcall.progress import progress
    from fedcall.study.terms import read_study
    from fedcall.training import rounds
    from fedcall.workflow.people import people_of_sheet

    signed, key = read_study(study), None
    if signed.protection.encryption is not None:
        from fedcall.protection.ceremony import read_joint_key

        key = read_joint_key(signed.protection.encryption, signed.protection.signing_keys, study)
    with progress("private training", signed.privacy.steps_per_round, "steps") as done:
        outcome = rounds.train_round(
            signed,
            site,
            round_number,
            keys,
            model,
            examples or [],
            ledger,
            update,
            claim,
            device,
            done.advance,
            [receipts / f"{round_number - 1}/receipt.json"] if receipts and round_number > 1 else (),
            people_of_sheet(sheet, site, reference) if sheet else None,
            key,
        )
    # Public facts only: logs are shared more freely than data.
    say(f"study    {signed.name} ({outcome.claim.study[:12]}), site {site}, round {round_number}")
    say(f"outcome  {outcome.state}: {outcome.sentence}")
    if outcome.claim.epsilon is None:
        say("epsilon  none: this study trains without noise")
    else:
        cap = signed.privacy.max_epsilon
        limit = "no cap" if cap is None else f"cap {cap:g}"
        say(
            f"epsilon  {outcome.claim.epsilon:.3f} per {signed.privacy.unit} at delta {signed.privacy.delta:g},"
            f" by this study so far ({limit})"
        )
