"""`fedcall experiments`: what the figures of docs/results.md were made with, on people whose data is not private."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from fedcall.cli.printing import say_block
from fedcall.errors import FedcallError

if TYPE_CHECKING:
    from fedcall.workflow.configuration import Patient


def register(app: typer.Typer) -> None:
    """Add the `experiments` commands."""
    group = typer.Typer(no_args_is_help=True, help="Experiments on people whose data is not private; nothing is sent.")
    group.command("pooling")(pooling)
    group.command("local")(local)
    group.command("chemistry")(chemistry)
    app.add_typer(group, name="experiments")


def local(
    samples: Path = typer.Option(..., "--samples", help="Sheet of people; all must have 'no' in column 'private'."),
    reference: Path = typer.Option(..., "--reference", help="Reference of rows that name none."),
    within: list[str] = typer.Option([], "--within", help="Score only in this region (CONTIG:FIRST-LAST)."),
    model: Path | None = typer.Option(None, "--model", help="Model to call with; the likelihood alone if left out."),
    panel: Path | None = typer.Option(None, "--panel", help="Public allele frequencies: their sites are left out."),
    scenarios: list[str] = typer.Option([], "--scenario", help="Of those in the table; all if left out."),
    seeds: int = typer.Option(1, "--seeds", min=1, max=100, help="Draws of the damage."),
    output: Path | None = typer.Option(None, "--output", help="Also write the rows as JSON, one a line."),
) -> None:
    """Put wrong qualities and damage into people's reads, and print what their own reads alone win back, untrained.

    Example: fedcall experiments local --samples config/ceu/gate_public.tsv --reference
    ../shared/data/ceu_1000g/reference.fa.gz --within 20:20075001-20150000
    """
    chosen = _scenarios(scenarios)

    from fedcall.experiments.damaged_people import read_people
    from fedcall.experiments.local_fit import Setting, as_text, local_gains
    from fedcall.files import write_text
    from fedcall.genomics.calling.panel import open_panel
    from fedcall.model.caller import build_model, weights_of
    from fedcall.model.inference import checked_tensors
    from fedcall.weights import read_weights

    people = read_people(samples)
    tensors = weights_of(build_model()) if model is None else checked_tensors(read_weights(model), str(model))
    known = open_panel(panel, reference) if panel is not None else None
    gains = local_gains(Setting(people, reference, within, tensors, known), chosen, range(1, seeds + 1))
    if output is not None:
        write_text(output, "".join(f"{one.model_dump_json()}\n" for one in gains))
    say_block(as_text(gains))


def chemistry(
    study: Path = typer.Option(..., "--study", help="Terms (.yaml) of the joint training."),
    training: Path = typer.Option(..., "--train", help="Sheet: split 'train', by hospital; 'no' in column 'private'."),
    scored: Path = typer.Option(..., "--score", help="Sheet of people whom nobody trains on, with the same chemistry."),
    reference: Path = typer.Option(..., "--reference", help="Reference of rows that name none."),
    within: list[str] = typer.Option(..., "--within", help="Score here, train elsewhere (CONTIG:FIRST-LAST)."),
    initial: Path | None = typer.Option(None, "--initial", help="First model; the likelihood alone if left out."),
    scenarios: list[str] = typer.Option([], "--scenario", help="Of those in the table; all if left out."),
    seeds: int = typer.Option(1, "--seeds", min=1, max=100, help="Trainings of each, with damage drawn anew."),
    without_noise: bool = typer.Option(False, "--without-noise", help="Train with the same clipping and no noise."),
    output: Path | None = typer.Option(None, "--output", help="Also write the rows as JSON, one a line."),
) -> None:
    """Put wrong qualities and damage into the reads of hospitals' patients, and print what wins back what they cost.

    Joint training by the study's terms; without epsilon each person's own table of base qualities, and constants that a
    hospital fits to its own patients; and such a fit on the joint model, on people and in regions that nobody trained
    on. Elsewhere: the joint model on the same people as they are.

    Example: fedcall experiments chemistry --study config/ceu/chemistry_3.yaml --train config/ceu/gate_people.tsv
    --score config/ceu/gate_public.tsv --reference ../shared/data/ceu_1000g/reference.fa.gz --within
    20:20075001-20150000
    """
    chosen = _scenarios(scenarios)

    from fedcall.experiments.damaged_people import read_people

    sites: dict[str, list[Patient]] = {}
    for person in read_people(training, "train"):
        sites.setdefault(person.site, []).append(person)
    others = read_people(scored)
    known = {person.patient for person in others}
    both = [person.patient for people in sites.values() for person in people if person.patient in known]
    if both:
        raise FedcallError(f"{scored}: '{both[0]}' is trained on in {training}, and nobody who is may be scored")

    from fedcall.experiments.chemistry import ChemistryCohort, ChemistryRow, as_text, chemistry_rows
    from fedcall.federation.aggregator.aggregation import quiet_flower
    from fedcall.files import write_text
    from fedcall.model.caller import build_model, weights_of
    from fedcall.model.inference import checked_tensors
    from fedcall.study.terms import read_study_terms
    from fedcall.weights import read_weights

    terms = read_study_terms(study)
    if without_noise:
        privacy = terms.privacy.model_copy(update={"noise_multiplier": 0.0, "max_epsilon": None})
        terms = terms.model_copy(update={"privacy": privacy})
    cohort = ChemistryCohort(sites, others, reference, within)
    first = weights_of(build_model()) if initial is None else checked_tensors(read_weights(initial), str(initial))
    quiet_flower()
    made: list[ChemistryRow] = []

    def keep(row: ChemistryRow) -> None:
        made.append(row)
        if output is not None:  # what is there survives a stop
            write_text(output, "".join(f"{one.model_dump_json()}\n" for one in made))

    chemistry_rows(terms, first, cohort, chosen, range(1, seeds + 1), keep)
    say_block(as_text(made))


def _scenarios(wanted: list[str]) -> list[str]:
    from fedcall.experiments.changed_reads import SCENARIOS

    unknown = sorted(set(wanted) - SCENARIOS.keys())
    if unknown:
        raise FedcallError(f"--scenario '{unknown[0]}': one of {', '.join(map(repr, SCENARIOS))} expected")
    return wanted or list(SCENARIOS)


def pooling(
    study: Path = typer.Option(..., "--study", help="Terms (.yaml): what is trained, and the gradient's numbers."),
    delta_study: Path | None = typer.Option(
        None,
        "--delta-study",
        help="Terms (.yaml) of the trainings with deltas; left out, ten sums of eight own steps, chosen for the head.",
    ),
    samples: Path = typer.Option(..., "--samples", help="Sheet of people; all must have 'no' in column 'private'."),
    results: Path = typer.Option(..., "--results", help="Folder with SITE/examples of these people."),
    initial: Path = typer.Option(..., "--initial", help="First global model, made by 'fedcall train-public'."),
    sites: list[int] = typer.Option([1, 3, 12, 30], "--sites", min=1, help="Hospitals to deal the patients out to."),
    epsilons: list[float] = typer.Option([0.5, 1.0, 2.0, 4.0, 8.0], "--epsilon", help="Of the whole study."),
    contributions: list[str] = typer.Option(["gradient", "delta"], "--contribution", help="gradient or delta."),
    noises: list[str] = typer.Option(["own", "pooled"], "--noise", help="own or pooled, of several hospitals."),
    seeds: int = typer.Option(3, "--seeds", min=1, max=100, help="Trainings of each case."),
    output: Path | None = typer.Option(None, "--output", help="Also write the points as JSON, one a line."),
) -> None:
    """Train the same patients in few or many hospitals, with own and with pooled noise, and print F1 against epsilon.

    Sites' vectors are added in the clear, in this process: masks add up to the same, bit for bit.

    Example: fedcall experiments pooling --study config/study.yaml --samples resources/cohort/samples.tsv --results
    results/demo --initial results/demo/initial.safetensors --sites 12 --epsilon 1
    """
    unknown = sorted(set(contributions) - {"gradient", "delta"})
    if unknown:
        raise FedcallError(f"--contribution {unknown[0]}: gradient or delta expected")
    if unknown := sorted(set(noises) - {"own", "pooled"}):
        raise FedcallError(f"--noise {unknown[0]}: own or pooled expected")
    if not all(epsilon > 0 for epsilon in epsilons):
        raise FedcallError(f"--epsilon {min(epsilons):g}: must be above 0")

    from fedcall.experiments.pooling import PooledPoint, as_text, open_people, pooled_cases, pooled_points
    from fedcall.federation.aggregator.aggregation import quiet_flower
    from fedcall.files import write_text
    from fedcall.study.terms import read_study_terms
    from fedcall.weights import read_weights

    terms, people, first = read_study_terms(study), open_people(samples, results), read_weights(initial)
    deltas = read_study_terms(delta_study) if delta_study else None
    if max(sites) > len(people.training):
        raise FedcallError(f"--sites {max(sites)}: there are {len(people.training)} training patients to deal out")
    quiet_flower()
    cases = list(pooled_cases(sites, epsilons, contributions, noises))  # type: ignore[arg-type]  # checked above
    made: list[PooledPoint] = []

    def keep(point: PooledPoint) -> None:
        made.append(point)
        if output is not None:  # what is there survives a stop
            write_text(output, "".join(f"{one.model_dump_json()}\n" for one in made))

    pooled_points(terms, first.tensors, people, cases, range(1, seeds + 1), keep, deltas)
    say_block(as_text(made))
