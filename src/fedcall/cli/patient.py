"""`fedcall patient`: what a patient of the hospital decides."""

from pathlib import Path

import typer

from fedcall.cli.printing import say, say_block


def register(app: typer.Typer) -> None:
    """Add the `patient` commands."""
    patient = typer.Typer(no_args_is_help=True, help="What a patient of the hospital decides.")
    patient.callback()(lambda: None)
    patient.command("withdraw")(withdraw)
    app.add_typer(patient, name="patient")


def withdraw(
    name: str = typer.Argument(..., help="The patient's name in the sheet, or the person's; the row may be gone."),
    configuration: Path = typer.Option(
        ..., "--configuration", help="The hospital's configuration (config.yaml): sheet, keys, ledger, sketches."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print the record as JSON."),
) -> None:
    """Withdraw a patient's consent: from now on the patient contributes nothing, and nobody outside learns of it.

    Deletes what was made of the patient here (alignments, labels, examples, calls, sketches, logs), in the working
    directory's results of every study, keeps the decision in the ledger for ever, and writes a record for the
    data-protection officer beside the ledger. The hospital's own files stay, and so does what was released before: the
    record says how much that was. Run it again after an interruption; it finishes what it began.

    Example: fedcall patient withdraw north-017 --configuration config.yaml
    """
    from fedcall.workflow.withdrawal import withdraw as run

    done = run(configuration, name)
    if as_json:
        say_block(done.record.model_dump_json(indent=2))
        return
    for line in done.lines():
        say(line)
