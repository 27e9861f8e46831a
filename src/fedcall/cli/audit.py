"""`fedcall audit`."""

from pathlib import Path

import typer

from fedcall.cli.printing import say, say_block
from fedcall.errors import FedcallError


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("audit")(audit)


def audit(
    study: Path = typer.Option(..., "--study", help="Study terms (.yaml, may be incomplete) or signed study (.json)."),
    self_check: bool = typer.Option(False, "--self-check", help="Plant faults, too, and see that each is caught."),
    membership: bool = typer.Option(
        False, "--membership", help="Attack models of simulated people, too: who took part in the training?"
    ),
    confidence: float = typer.Option(0.95, "--confidence", help="Of the whole audit, in (0, 1)."),
    seed: int = typer.Option(1, "--seed", min=0, help="Of canaries and coins; same seed, same report."),
    threads: int = typer.Option(2, "--threads", min=1, help="Parts of the audit worked on at the same time."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON instead of a table."),
    output: Path | None = typer.Option(None, "--output", help="Also write the JSON to this file."),
    html: Path | None = typer.Option(None, "--html", help="Also write a page to this file."),
) -> None:
    """Try to prove that training leaks more than it claims, with made-up patients; exit 3 if it does.

    Canary patients go through the functions that train the study, with its unit, mechanism and trainable part; a
    guesser then says which of them took part. More right guesses than the claimed epsilon allows are a proof. No
    patient's data is read and no ledger is charged.

    Example: fedcall audit --study config/study.yaml --self-check --membership --html audit.html
    """
    if not 0 < confidence < 1:
        raise FedcallError(f"--confidence {confidence:g}: must be between 0 and 1")

    from fedcall.errors import PrivacyRefusal
    from fedcall.study.terms import read_study_terms

    terms = read_study_terms(study)

    from fedcall.experiments.audit import as_text
    from fedcall.experiments.audit import audit as run
    from fedcall.federation.aggregator.aggregation import quiet_flower
    from fedcall.files import write_text
    from fedcall.reporting.base.pages import render, to_json
    from fedcall.reporting.privacy.audit_page import audit_figures

    quiet_flower()
    report = run(terms, self_check, membership, confidence, seed, threads, lambda part: say(f"done: {part}", err=True))
    if output is not None:
        write_text(output, to_json(report))
    if html is not None:
        write_text(html, render(report, "audit.html", audit_figures(report)))
    say_block(to_json(report).rstrip() if as_json else as_text(report))
    if any(scene.contradicts_claim for scene in report.scenes):
        raise PrivacyRefusal("training leaks more than it claims; do not train on patients with this installation")
