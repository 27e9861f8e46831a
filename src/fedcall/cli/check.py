"""`fedcall check`: the checks the workflow makes before any job, without the workflow."""

from pathlib import Path

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("check")(check)


def check(
    configuration: Path = typer.Argument(..., help="The configuration, config/config.yaml for example."),
    as_json: bool = typer.Option(False, "--json", help="Print the summary as JSON."),
) -> None:
    """Check configuration, sheet of patients and study together, as the workflow does before any job.

    Paths in the configuration are relative to the working directory, as for Snakemake.

    Example: fedcall check config/config.yaml
    """
    import json

    from fedcall.workflow.input_files import check_input_files
    from fedcall.workflow.run import load_run

    run = load_run(configuration)
    check_input_files(run)
    summary = {
        "study": run.study.name,
        "mode": "rehearsal" if run.is_rehearsal else "site",
        "rounds": run.study.rounds,
        "sites": [
            {"site": site, "train": len(run.training[site]), "holdout": len(run.holdout[site])} for site in run.sites
        ],
        "public": {"train": len(run.training["public"]), "holdout": len(run.holdout["public"])},
    }
    if as_json:
        typer.echo(json.dumps(summary, indent=2))
        return
    typer.echo(f"study '{summary['study']}', {summary['mode']}, {summary['rounds']} rounds: no mistake found")
    for folder in (*run.sites, "public"):
        typer.echo(f"  {folder}: {len(run.training[folder])} training, {len(run.holdout[folder])} held out")
