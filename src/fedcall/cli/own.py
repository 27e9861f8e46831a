"""`fedcall fit-chemistry`: the likelihood's constants fitted to a hospital's own patients, for that hospital alone."""

from pathlib import Path

import typer

from fedcall.cli.printing import say
from fedcall.errors import FedcallError


def register(app: typer.Typer) -> None:
    """Add the command `fit-chemistry`."""
    app.command("fit-chemistry")(fit_chemistry)


def fit_chemistry(
    model: Path = typer.Option(..., "--model", help="The joint model, where the fit begins."),
    examples: list[Path] = typer.Option(..., "--examples", help="Labelled examples of a patient; once for each."),
    site: str = typer.Option(..., "--site", help="The hospital whose patients they are, and where the model stays."),
    output: Path = typer.Option(..., "--output", help="Model to write, for 'fedcall call' at this hospital."),
) -> None:
    """Fit the likelihood's constants of a model to a hospital's own labelled patients, without noise.

    What is written is as private as the patients it was made from: it is no release, no ledger knows of it, and it must
    not leave the hospital; no study can start from it. Constants are changed only if patients whom a fit had not seen
    are called better by it; else the joint model is written as it is.

    Example: fedcall fit-chemistry --model final.safetensors --examples p1.safetensors --examples p2.safetensors
    --examples p3.safetensors --site lakeside --output own_model.safetensors
    """
    from fedcall.genomics.examples import open_examples
    from fedcall.model.inference import ARCHITECTURE, checked_tensors
    from fedcall.training.own_chemistry import FOLDS, fit_own_chemistry
    from fedcall.weights import STAYS, read_weights, write_weights

    names = [path.stem for path in examples]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise FedcallError(f"--examples: two files of patient '{twice[0]}'; give one")
    tensors = checked_tensors(read_weights(model), str(model))
    made = fit_own_chemistry(tensors, {path.stem: open_examples(path) for path in examples})
    metadata = {STAYS: site, "architecture": ARCHITECTURE}
    write_weights(output, made.tensors, metadata if made.is_used else {"architecture": ARCHITECTURE})
    if not made.gains:
        say(f"{output}: the joint model; {FOLDS} patients with labels are needed to fit one's own constants")
        return
    better = sum(gain > 0 for gain in made.gains.values())
    found = f"fits that had not seen a patient called {better} of {len(made.gains)} better"
    if not made.is_used:
        say(f"{output}: the joint model; {found}")
        return
    say(f"{output}: constants of the hospital's own; {found}")
    say(f"It was made without noise: it stays at {site}.")
