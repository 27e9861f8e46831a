"""`fedcall check` and `compare-people`: the checks the workflow makes before training, without the workflow."""

from pathlib import Path

import typer

from fedcall.cli.printing import say, say_block
from fedcall.cli.sites import each_site


def register(app: typer.Typer) -> None:
    """Add the commands `check` and `compare-people`."""
    app.command("check")(check)
    app.command("compare-people")(compare_people)


def check(
    configuration: Path = typer.Argument(..., help="The configuration, config/config.yaml for example."),
    as_json: bool = typer.Option(False, "--json", help="Print the summary as JSON."),
    threads: int = typer.Option(1, "--threads", min=1, help="Patients whose reads are looked at side by side."),
) -> None:
    """Check configuration, sheet of patients and study together, as the workflow does before any job.

    Where the patients' alignments are there, it also compares all people by their reads: two rows that are one human
    being are refused, relatives are shown with the epsilon of their family. What it keeps for that stays in the folder
    'sketches' of the configuration, for its owner alone.

    Other callers (key 'callers') whose command is missing are told; 'snakemake --sdm' may supply them.

    It also reads the first reads of every patient, and refuses the same data under two names, in this run or between it
    and the hospital's ledger, and people as public whom the ledger has charged.

    Paths in the configuration are relative to the working directory, as for Snakemake.

    Example: fedcall check config/config.yaml
    """
    import json

    from fedcall.callers.availability import missing_line
    from fedcall.workflow.identity import compare_run, refuse_duplicates
    from fedcall.workflow.input_files import check_input_files
    from fedcall.workflow.people import check_data
    from fedcall.workflow.run import load_run

    run = load_run(configuration)
    for warning in check_input_files(run):
        say(f"fedcall: warning: {warning}", err=True)
    check_data(run)
    found = compare_run(run, threads=threads)
    if found is not None:
        refuse_duplicates(found)
    summary = {
        "study": run.study.name,
        "mode": "rehearsal" if run.is_rehearsal else "site",
        "rounds": run.study.rounds,
        "sites": [
            {"site": site, "train": len(run.training[site]), "holdout": len(run.holdout[site])} for site in run.sites
        ],
        "public": {"train": len(run.training["public"]), "holdout": len(run.holdout["public"])},
    }
    if run.charges_for_good:
        say(f"fedcall: {run.charges_for_good}", err=True)
    for missing in filter(None, map(missing_line, run.config.callers)):
        say(f"fedcall: {missing}", err=True)
    if as_json:
        say_block(json.dumps(summary, indent=2))
        return
    say(f"study '{summary['study']}', {summary['mode']}, {summary['rounds']} rounds: no mistake found")
    for folder in (*run.sites, "public"):
        say(f"  {folder}: {len(run.training[folder])} training, {len(run.holdout[folder])} held out")
    for line in found.lines() if found is not None else ():
        say(line)


def compare_people(
    configuration: str = typer.Option(..., "--configuration", help="The configuration's values as JSON, or its file."),
    sites: list[str] = typer.Option(
        ..., "--site", help="Whose patients to compare; several each among themselves, '{site}' in the output is each."
    ),
    alignments: list[Path] = typer.Option(
        [], "--alignments", help="Alignments named PATIENT.bam, in the sheet's place."
    ),
    output: Path = typer.Option(
        ..., "--output", help="File to write when nobody is given twice; it tells nothing more."
    ),
    threads: int = typer.Option(1, "--threads", min=1, help="Patients whose reads are looked at side by side."),
) -> None:
    """Refuse to train when two people are one human being by their reads; the workflow runs it before training.

    What was found about relatives is told by 'fedcall check', and nowhere else: neither here nor in a log.

    Example: fedcall compare-people --configuration config/config.yaml --site north --output compared.txt
    """
    import tempfile

    from fedcall.files import write_text
    from fedcall.workflow.identity import compare_run, refuse_duplicates, remember_people
    from fedcall.workflow.run import load_run

    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        if configuration.lstrip().startswith("{"):  # JSON is YAML, too
            file.write(configuration)
            file.flush()
            configuration = file.name
        run = load_run(Path(configuration), upstream=True)
    given = {file.stem: file for file in alignments}
    for site, (own_output,) in each_site(sites, output):
        found = compare_run(run, [site], given, threads)
        if found is not None:
            refuse_duplicates(found)
            remember_people(run, found, site)
        # Public facts only: logs are shared more freely than data.
        write_text(own_output, "Nobody is given twice.\n")
        say(f"site {site}: nobody is given twice")
