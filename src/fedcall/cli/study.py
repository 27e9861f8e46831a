"""`fedcall study`: make, sign and read the agreement of all sites."""

from pathlib import Path

import typer

from fedcall.cli.printing import say, say_block
from fedcall.errors import FedcallError


def register(app: typer.Typer) -> None:
    """Add the `study` commands."""
    study = typer.Typer(no_args_is_help=True, help="The agreement all sites sign.")
    study.command("new")(new)
    study.command("extend")(extend)
    study.command("sign")(sign)
    study.command("check")(check)
    app.add_typer(study, name="study")


def new(
    terms: Path = typer.Option(..., "--terms", help="Terms of the study (YAML): rounds, model, privacy, aggregation."),
    initial: Path = typer.Option(
        ..., "--initial", help="First global model (safetensors); the study names its digest."
    ),
    coordinator: Path = typer.Option(..., "--coordinator", help="Public file (site.json) of the coordinator's keys."),
    sites: list[str] = typer.Option(
        ...,
        "--site",
        metavar="SITE.JSON=PATIENTS[+HELDOUT]",
        help="A site's public file, its declared number of patients, and of held-out ones who judge the final model.",
    ),
    helpers: list[Path] = typer.Option(
        [], "--helper", metavar="HELPER.JSON", help="A helper's public file, where updates are masked; may be repeated."
    ),
    ceremony: str | None = typer.Option(
        None, "--ceremony", help="Name of the ceremony of the helpers' joint key, where updates are encrypted."
    ),
    exchange: Path | None = typer.Option(None, "--exchange", help="Folder that the helpers exchanged in the ceremony."),
    evidence: Path | None = typer.Option(
        None, "--evidence", metavar="POLICY.YAML", help="What the enclave of a sealed study must show."
    ),
    launch: Path | None = typer.Option(
        None,
        "--measure",
        metavar="LAUNCH.YAML",
        help="With --evidence: how the enclave's image is started; its measurements go into the policy.",
    ),
    output: Path = typer.Option(..., "--output", help="The complete study (YAML), for people to review."),
) -> None:
    """Fill the terms with sites, coordinator and initial weights.

    Where updates are encrypted, the helpers' shares of the joint key are written beside the output (encryption.shares):
    every site needs them beside the signed study.

    Example: fedcall study new --terms study.yaml --initial initial.safetensors --coordinator coordinator/site.json
    --site north/site.json=40 --site south/site.json=25 --output study.full.yaml
    """
    from fedcall.files import write_text
    from fedcall.protection.ceremony import gather, write_shares
    from fedcall.study.drafting import EvidenceFiles, complete_terms, review_yaml

    key, shares = None, b""
    if (ceremony is None) != (exchange is None):
        raise FedcallError("give both of --ceremony NAME and --exchange FOLDER, or neither")
    if ceremony is not None and exchange is not None:
        key, shares = gather(ceremony, exchange, helpers)
    if launch is not None and evidence is None:
        raise FedcallError("--measure: the measurement goes into a policy; give it with --evidence")
    files = None if evidence is None else EvidenceFiles(evidence, launch)
    complete = complete_terms(terms, initial, coordinator, sites, helpers, key, files)
    if key is not None:
        write_shares(output, shares)
    write_text(output, review_yaml(complete))
    say(f"wrote {output}: read it, then sign it with 'fedcall study sign'")


def extend(
    study: Path = typer.Option(..., "--study", help="Signed study (study.json) that is over, or was closed."),
    final: Path = typer.Option(
        ..., "--final", help="Its final model: final.safetensors, or the last in STATE/rounds/N/global.safetensors."
    ),
    name: str = typer.Option(..., "--name", help="Name of the study that goes on."),
    rounds: int = typer.Option(..., "--rounds", min=1, help="Its rounds."),
    sites: list[str] = typer.Option(
        [],
        "--site",
        metavar="SITE.JSON=PATIENTS[+HELDOUT]",
        help="A site that joins, or one of the old study with new keys or another number of patients.",
    ),
    without: list[str] = typer.Option([], "--without", help="Name of a site that leaves; may be repeated."),
    helpers: list[Path] = typer.Option(
        [],
        "--helper",
        metavar="HELPER.JSON",
        help="A helper's public file, where updates are masked; may be repeated. Left out, the old helpers go on.",
    ),
    output: Path = typer.Option(..., "--output", help="The complete study (YAML), for people to review."),
) -> None:
    """Make the study that goes on from the final model of another, under its terms; it names the other's digest.

    More rounds, a hospital that joins or leaves, new keys of a hospital, other helpers: each is another study, which
    all sites approve. Charges add up in every hospital's ledger over both.

    Example: fedcall study extend --study study.json --final final.safetensors --name pilot-2 --rounds 4
    --site west/site.json=30 --without south --output pilot-2.yaml
    """
    from fedcall.files import write_text
    from fedcall.protection.ceremony import read_shares, write_shares
    from fedcall.study.drafting import review_yaml
    from fedcall.study.extension import Extension, extend_study

    wanted = Extension(study, final, name, rounds, tuple(sites), tuple(without), tuple(helpers))
    new_study, both = extend_study(wanted)
    terms = new_study.protection
    if terms.encryption is not None:  # the holders go on, and so does their key
        write_shares(output, read_shares(terms.encryption, terms.signing_keys, study))
    write_text(output, review_yaml(new_study))
    say(f"wrote {output}: read it, then sign it with 'fedcall study sign'")
    if both is not None:
        bound = f"{max(both.pld, both.rdp):.3f}" if both.is_finite else "without bound"
        say(
            f"epsilon of a {new_study.privacy.unit} in all rounds of both: {bound} at delta {new_study.privacy.delta:g}"
            f" (cap {'none' if new_study.privacy.max_epsilon is None else format(new_study.privacy.max_epsilon, 'g')})"
        )


def sign(
    study: Path = typer.Option(..., "--study", help="Complete study (YAML), from 'fedcall study new'."),
    keys: Path = typer.Option(..., "--keys", help="Folder of the coordinator's keys."),
    output: Path = typer.Option(..., "--output", help="Signed study (study.json)."),
) -> None:
    """Sign a complete study with the coordinator's key.

    Example: fedcall study sign --study study.full.yaml --keys private/coordinator/keys --output study.json
    """
    from fedcall.study.drafting import sign_study

    signed = sign_study(study, keys, output)
    say(f"study {signed.name} {signed.digest}")


def check(
    study: Path = typer.Option(..., "--study", help="Signed study (study.json)."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON instead of a table."),
) -> None:
    """Check a signed study's signature and rules, and print its digest and what it agrees.

    A site approves a study by this digest (config key approved_study).

    Example: fedcall study check --study study.json
    """
    import json

    from fedcall.study.drafting import summarise
    from fedcall.study.terms import read_study

    summary = summarise(read_study(study))
    if as_json:
        say_block(json.dumps(summary, indent=2))
        return
    width = max(len(key) for key in summary)
    for key, value in summary.items():
        say(f"{key.replace('_', ' '):<{width}}  {value}")
