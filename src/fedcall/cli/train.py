"""`fedcall train-public` and `fedcall train-round`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from fedcall.cli.printing import say
from fedcall.cli.sites import each_site, for_site
from fedcall.errors import FedcallError

if TYPE_CHECKING:
    from fedcall.privacy.terms import PrivacyTerms


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
    sites: list[str] = typer.Option(
        ..., "--site", help="Name of this site in the study; in a rehearsal, several, and '{site}' in paths is each."
    ),
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
    named: Path | None = typer.Option(
        None, "--examples", help="In place of files: their path, in which '{patient}' is each of --patients."
    ),
    patients: list[str] = typer.Option([], "--patients", help="SITE=NAME,NAME,…: the training patients of a site."),
    threads: int = typer.Option(1, "--threads", min=1, help="How many sites are trained at a time, on a CPU."),
    files: list[Path] = typer.Argument(
        None, metavar="EXAMPLES", help="Examples files, one per training patient, named after it."
    ),
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
    from fedcall.workflow.side_by_side_trainings import train_sites

    signed, key, several = read_study(study), None, len(sites) > 1
    if signed.protection.encryption is not None:
        from fedcall.protection.ceremony import read_joint_key

        key = read_joint_key(signed.protection.encryption, signed.protection.signing_keys, study)
    examples = _examples(sites, files or [], named, patients)
    paths = dict(each_site(sites, keys, ledger, update, claim))
    total, unit = (len(sites), "sites") if several else (signed.privacy.steps_per_round, "steps")
    with progress("private training", total, unit) as done:

        def train(site: str) -> rounds.RoundOutcome:
            own_keys, own_ledger, own_update, own_claim = paths[site]
            before = for_site(receipts, site) / f"{round_number - 1}/receipt.json" if receipts else None
            return rounds.train_round(
                signed,
                site,
                round_number,
                rounds.RoundFiles(
                    own_keys,
                    for_site(model, site),
                    examples[site],
                    own_ledger,
                    own_update,
                    own_claim,
                    [before] if before and round_number > 1 else (),
                ),
                device=device,
                on_step=(lambda: None) if several else done.advance,
                people=people_of_sheet(sheet, site, reference) if sheet else None,
                key=key,
            )

        outcomes = train_sites(train, sites, threads if device == "cpu" else 1, done.advance)
    for site, outcome in outcomes:
        # Public facts only: logs are shared more freely than data.
        say(f"study    {signed.name} ({outcome.claim.study[:12]}), site {site}, round {round_number}")
        say(f"outcome  {outcome.state}: {outcome.sentence}")
        say(_epsilon(signed.privacy, outcome.claim.epsilon))


def _examples(
    sites: Sequence[str], files: Sequence[Path], named: Path | None, patients: Sequence[str]
) -> dict[str, list[Path]]:
    """Return the examples files of each site: those given, or those that --examples and --patients name."""
    if named is None:
        if len(sites) > 1 or patients:
            raise FedcallError(
                "--patients and several --site need --examples with '{site}' and '{patient}' in its path"
            )
        return {sites[0]: list(files)}
    if files:
        raise FedcallError(f"{files[0]}: examples are given as files and with --examples; give them in one way")
    names = {
        site: [name for name in listed.split(",") if name]
        for site, _, listed in (one.partition("=") for one in patients)
    }
    if set(names) != set(sites) or len(names) != len(patients):
        raise FedcallError(f"--patients of {', '.join(names) or 'nobody'}: once for each --site ({', '.join(sites)})")
    if "{patient}" not in str(named):
        raise FedcallError(f"--examples {named}: write {{patient}} where the name belongs")
    [*each_site(list(sites), named)]
    return {
        site: [Path(str(for_site(named, site)).replace("{patient}", name)) for name in names[site]] for site in sites
    }


def _epsilon(terms: "PrivacyTerms", claimed: float | None) -> str:
    if claimed is None:
        return "epsilon  none: this study trains without noise"
    limit = "no cap" if terms.max_epsilon is None else f"cap {terms.max_epsilon:g}"
    return f"epsilon  {claimed:.3f} per {terms.unit} at delta {terms.delta:g}, by this study so far ({limit})"
