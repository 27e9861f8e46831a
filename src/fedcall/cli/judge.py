"""`fedcall judge`, `upload-judgement` and `fetch-verdict`: held-out patients judge the final model, privately."""

from pathlib import Path

import typer

from fedcall.cli.connection import Connection, make_visitor, with_connection
from fedcall.cli.printing import say
from fedcall.cli.sites import each_site
from fedcall.errors import FedcallError
from fedcall.shown import shown


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("judge")(judge)
    app.command("upload-judgement")(with_connection(upload_judgement))
    app.command("fetch-verdict")(with_connection(fetch_verdict))


def judge(
    study: Path = typer.Option(..., "--study", help="Signed study (study.json)."),
    site: str = typer.Option(..., "--site", help="Name of this site in the study."),
    keys: Path = typer.Option(..., "--keys", help="The site's key folder."),
    initial: Path = typer.Option(..., "--initial", help="The first global model (safetensors)."),
    final: Path = typer.Option(..., "--final", help="The final model (safetensors)."),
    before: list[Path] = typer.Option(
        ..., "--before", help="A held-out patient's concordance with the first model's calls; once per patient."
    ),
    after: list[Path] = typer.Option(
        ..., "--after", help="A held-out patient's concordance with the final model's calls; once per patient."
    ),
    ledger: Path = typer.Option(..., "--ledger", help="The site's ledger."),
    receipts: Path | None = typer.Option(
        None, "--receipts", help="Folder of this site's rounds, N/receipt.json in it; the ledger must hold their rows."
    ),
    sheet: Path | None = typer.Option(
        None,
        "--sheet",
        help="Sheet of patients: which person each one is (column 'person'), and whether private; left out, everybody"
        " is a private person of the file's name.",
    ),
    reference: Path | None = typer.Option(None, "--reference", help="Reference of the sheet's alignments."),
    output: Path = typer.Option(..., "--output", help="The signed judgement (JSON) to write."),
) -> None:
    """Compare the final with the first model on this site's held-out patients: charge them, then release one noisy sum.

    Run again with the same inputs, it returns the same bytes and charges nothing.

    Example: fedcall judge --study study.json --site north --keys private/north/keys --initial initial.safetensors
    --final final.safetensors --before initial/h1.json --after final/h1.json --ledger private/north/ledger.sqlite
    --sheet samples.tsv --reference genome.fa --output judgement.json
    """
    from fedcall.study.judgement import judge_terms
    from fedcall.study.terms import read_study
    from fedcall.training.judging import HeldOut, JudgingSite, judge_models
    from fedcall.workflow.people import people_of_sheet

    signed = read_study(study)
    last = [receipts / f"{signed.rounds}/receipt.json"] if receipts else []
    if receipts and not last[0].exists():  # a study that was closed early has none of its last round
        answered = [path for path in receipts.glob("*/receipt.json") if path.parent.name.isdecimal()]
        last = sorted(answered, key=lambda path: int(path.parent.name))[-1:]
    people = people_of_sheet(sheet, site, reference, "holdout") if sheet else {}
    own = JudgingSite(site, keys, ledger, last)
    outcome = judge_models(signed, own, (initial, final), HeldOut(before, after, people), output)
    # Public facts only: logs are shared more freely than data.
    say(f"study    {signed.name} ({signed.digest[:12]}), site {site}")
    say(f"outcome  {outcome.state}: {outcome.sentence}")
    terms = judge_terms(signed)
    say(f"epsilon  {terms.epsilon:g} per held-out patient ({outcome.judgement.people} declared)")


def upload_judgement(
    connection: Connection,
    judgement: Path = typer.Option(..., "--judgement", help="The signed judgement, made by `fedcall judge`."),
    receipt: Path = typer.Option(..., "--receipt", help="The aggregator's signed receipt (JSON)."),
) -> None:
    """Upload this site's judgement of the final model; leave with the signed receipt.

    Uploading the same file again gives the same receipt. A refusal is no error: the receipt says why.

    Example: fedcall upload-judgement --study study.json --site north --keys private/north/keys
    --aggregator fedcall.example.org:443 --ca ca.crt --judgement judgement.json --receipt receipt.json
    """
    from fedcall.federation.site.visits import upload_judgement as run

    files = each_site(connection.sites, connection.keys, judgement, receipt)
    for site, (own_keys, own_judgement, own_receipt) in files:
        visitor = make_visitor(connection, site, own_keys)
        answer = run(visitor, own_judgement, own_receipt)
        say(f"{site}: judgement {answer.status} ({answer.reason}): {shown(answer.sentence, 600)}")


def fetch_verdict(
    connection: Connection,
    judgement: Path | None = typer.Option(
        None, "--judgement", help="This site's own judgement: the verdict must say the same of it."
    ),
    wait_minutes: float | None = typer.Option(
        None, "--wait-minutes", min=0, help="Wait so long for the other sites; the study's deadline if left out."
    ),
    output: Path = typer.Option(..., "--output", help="The signed verdict (JSON)."),
) -> None:
    """Fetch the signed list of all sites' judgements; wait until every site has judged, or the deadline passed.

    Example: fedcall fetch-verdict --study study.json --site north --keys private/north/keys
    --aggregator fedcall.example.org:443 --ca ca.crt --judgement judgement.json --output verdict.json
    """
    import dataclasses

    from fedcall.federation.site.visits import fetch_verdict as run
    from fedcall.study.gain import estimate_gain, gain_sentence
    from fedcall.study.judgement import judge_terms

    if len(connection.sites) != 1:
        raise FedcallError("--site: give one site; every site fetches the verdict for itself")
    visitor = make_visitor(connection, connection.sites[0], connection.keys)
    minutes = visitor.study.aggregation.deadline_minutes if wait_minutes is None else wait_minutes
    verdict = run(dataclasses.replace(visitor, wait_seconds=60 * minutes), judgement, output)
    terms = judge_terms(visitor.study)
    say(gain_sentence(terms, estimate_gain(terms, verdict.sites)))
