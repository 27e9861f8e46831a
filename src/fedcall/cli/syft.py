"""`fedcall syft`: a hospital that takes part with PySyft."""

from pathlib import Path

import typer

from fedcall.cli.printing import say


def register(app: typer.Typer) -> None:
    """Add the `syft` commands."""
    syft = typer.Typer(no_args_is_help=True, help="A hospital that takes part with PySyft.")
    syft.command("answer", context_settings={"allow_extra_args": True, "ignore_unknown_options": False})(answer)
    app.add_typer(syft, name="syft")


def answer(
    context: typer.Context,
    configuration: Path = typer.Option(
        Path("config/config.yaml"), "--configfile", help="The hospital's configuration, with 'site' and 'syft'."
    ),
    cores: str = typer.Option("all", "--cores", help="Cores of the workflow, a number or 'all'."),
    auto_approve_study: str | None = typer.Option(
        None,
        "--auto-approve-study",
        metavar="DIGEST",
        help="Approve every round of the study with this digest, without asking: for who agreed to the whole study.",
    ),
) -> None:
    """Answer the jobs that the coordinator left in this hospital's PySyft folder: show each, ask, train, hand in.

    Before a job is approved it is verified: the coordinator's signature, the study, the model. What it costs each
    patient is shown. The approval holds for this content alone, and nothing that a job brings is ever run; the workflow
    of this folder is. What comes after '--' goes to Snakemake.

    Run it again for the next round; a finished answer is not made twice.

    Example: fedcall syft answer --configfile config/config.yaml --cores 4
    """
    import subprocess
    import sys

    from fedcall.errors import FedcallError
    from fedcall.workflow.run import load_run
    from fedcall.workflow.syft_answer import DataOwner, answer_jobs

    run = load_run(configuration)
    if auto_approve_study not in (None, run.study.digest):
        raise FedcallError(
            f"--auto-approve-study {auto_approve_study}: the study of {configuration} is {run.study.digest}"
        )

    def agrees(about: str) -> bool:
        say(about)
        if auto_approve_study is not None:
            return True
        if not sys.stdin.isatty():
            raise FedcallError(
                "nobody is there to approve; run it in a terminal, or with --auto-approve-study once you agreed to the"
                " whole study"
            )
        return typer.confirm("approve, train and hand in?")

    def run_workflow(target: Path | None) -> None:
        command = [sys.executable, "-m", "snakemake", "--configfile", str(configuration), "--cores", cores]
        command += [*context.args, "--", *([] if target is None else [str(target)])]
        if subprocess.run(command if target is not None else command[:-1], check=False).returncode != 0:
            raise FedcallError(
                "the workflow failed, as said above; mend it and run this command again: nothing is lost"
            )

    for line in answer_jobs(run, DataOwner(agrees, run_workflow)):
        say(line)
