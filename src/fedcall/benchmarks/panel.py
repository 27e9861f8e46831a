"""What a panel of public allele frequencies gains: calls with it and without, on patients made of real haplotypes."""

import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import BaseModel

from fedcall.errors import FedcallError
from fedcall.genomics.calling.calls import Provenance, write_calls
from fedcall.genomics.calling.panel import Panel, look_up, open_panel, with_panel
from fedcall.genomics.concordance.comparison import Concordance, Rarity, compare
from fedcall.genomics.concordance.pool import difference_interval, interval, pool
from fedcall.genomics.concordance.records import VariantKind
from fedcall.genomics.pileup.extraction import extract_examples
from fedcall.genomics.truth.allele_counts import write_allele_counts
from fedcall.model.inference import Tensors, checked_tensors, posteriors
from fedcall.progress import tracked
from fedcall.simulation.cohort import MARGIN, write_reference
from fedcall.simulation.people import People, panel_counts, read_people, write_panel, write_person
from fedcall.simulation.reads import CONTIG
from fedcall.weights import read_weights

KINDS: tuple[VariantKind, ...] = ("snps", "indels")


class Score(BaseModel):
    """Accuracy of one way of calling; intervals over people and pieces of the region."""

    precision: float | None
    recall: float | None
    f1: float | None
    f1_interval: tuple[float, float] | None
    unseen_recall: float | None  # of variants that nobody in the panel carries


class PanelRow(BaseModel):
    """Calls at one depth, of one kind of variant."""

    depth: float
    kind: VariantKind
    without: Score
    with_panel: Score
    f1_gain_interval: tuple[float, float] | None  # same people and pieces drawn for both


class PanelBenchmark(BaseModel):
    """What `fedcall benchmark panel` prints."""

    patients: int
    panel_people: int
    bases: int
    seed: int
    recurrent: bool  # whether everybody's reads share false sites
    rows: list[PanelRow]


@dataclass(frozen=True)
class _Place:
    """Files that all patients share."""

    folder: Path
    reference: Path
    regions: Path
    copies: Path
    panel: Panel
    tensors: Tensors


def benchmark_panel(
    haplotypes: Path,
    reference: Path,
    model: Path | None,
    depths: Sequence[float],
    patients: int,
    panel_people: int,
    seed: int,
    recurrent: bool,
) -> PanelBenchmark:
    """Call patients at each depth with and without a panel of other people; without a model, by the likelihood."""
    people = read_people(haplotypes, reference)
    if patients + panel_people > len(people.names):
        raise FedcallError(
            f"{haplotypes}: {len(people.names)} people, fewer than {patients} patients and {panel_people} others"
        )
    order = np.random.default_rng(seed).permutation(len(people.names)).tolist()
    members, called = order[:panel_people], order[panel_people : panel_people + patients]
    with tempfile.TemporaryDirectory(prefix="fedcall-") as name:
        place = _prepare(people, members, model, Path(name))
        rows = []
        for depth in depths:
            pairs = [
                _call_both(place, people, person, depth, seed, recurrent)
                for person in tracked(called, f"patients at {depth:g}x", "patients")
            ]
            rows += _rows(depth, [without for without, _ in pairs], [with_panel for _, with_panel in pairs])
    bases = len(people.genome.bases) - 2 * MARGIN
    return PanelBenchmark(
        patients=patients, panel_people=panel_people, bases=bases, seed=seed, recurrent=recurrent, rows=rows
    )


def as_text(result: PanelBenchmark) -> str:
    """Return the result as a table."""
    lines = [f"{'depth':>5} {'kind':7}{'F1 without':>21}{'F1 with the panel':>21}{'gain':>14}{'unseen':>11}"]
    for row in result.rows:
        before, after = row.without, row.with_panel
        unseen = f"{_number(before.unseen_recall)}>{_number(after.unseen_recall)}"
        lines.append(
            f"{row.depth:>4g}x {row.kind:7}{_shown(before):>21}{_shown(after):>21}{_span(row.f1_gain_interval):>14}"
            f"{unseen:>11}"
        )
    people = f"{result.patients} patients, {result.panel_people} other people in the panel, {result.bases:,} bases."
    return "\n".join(
        [*lines, "", people, "unseen: recall of variants nobody in the panel carries, without and with it."]
    )


def _prepare(people: People, members: list[int], model: Path | None, folder: Path) -> _Place:
    from fedcall.model.caller import build_model, save_model

    files = [folder / name for name in ("reference.fa", "regions.bed", "copies.tsv", "panel.vcf.gz")]
    reference, regions, copies, panel = files
    write_reference(people.genome, reference)
    regions.write_text(f"{CONTIG}\t{MARGIN}\t{len(people.genome.bases) - MARGIN}\n")
    write_panel(people, members, panel)
    sites = zip(people.population.positions.tolist(), people.population.refs, people.population.alts, strict=True)
    counted = zip(sites, panel_counts(people, members).tolist(), strict=True)
    # Once more than in the panel, for the patient who carries it: so 1 means that nobody in the panel does.
    write_allele_counts(copies, Counter({(CONTIG, *site): number + 1 for site, number in counted}))
    weights = model or folder / "likelihood.safetensors"
    if model is None:
        save_model(weights, build_model())
    tensors = checked_tensors(read_weights(weights), str(weights))
    return _Place(folder, reference, regions, copies, open_panel(panel, reference), tensors)


def _call_both(
    place: _Place, people: People, person: int, depth: float, seed: int, recurrent: bool
) -> tuple[Concordance, Concordance]:
    alignments, truth = write_person(people, person, depth, seed, place.folder, recurrent)
    examples = extract_examples(alignments, place.reference, place.regions)
    alone = posteriors(place.tensors, examples)
    diploid = np.zeros(len(examples), bool)
    both = (alone, with_panel(alone, examples, look_up(place.panel, examples), diploid))
    calls = place.folder / "calls.vcf.gz"

    def score(found: np.ndarray) -> Concordance:
        write_calls(calls, examples, found, place.reference, people.names[person], Provenance("benchmark"))
        return compare(truth, calls, place.regions, place.reference, rarity=Rarity(place.copies))

    without, with_frequencies = map(score, both)
    return without, with_frequencies


def _rows(depth: float, without: Sequence[Concordance], with_frequencies: Sequence[Concordance]) -> list[PanelRow]:
    return [
        PanelRow(
            depth=depth,
            kind=kind,
            without=_score(without, kind),
            with_panel=_score(with_frequencies, kind),
            f1_gain_interval=difference_interval(with_frequencies, without, kind),
        )
        for kind in KINDS
    ]


def _score(concordances: Sequence[Concordance], kind: VariantKind) -> Score:
    pooled = pool(concordances)
    figures = pooled.snps if kind == "snps" else pooled.indels
    assert figures is not None  # the truth has indels
    unseen = [
        stratum.figures.recall
        for stratum in pooled.strata
        if (stratum.type, stratum.stratum, stratum.value) == (kind, "allele count", "1 (rare)")
    ]
    return Score(
        precision=figures.precision,
        recall=figures.recall,
        f1=figures.f1,
        f1_interval=interval(concordances, kind),
        unseen_recall=unseen[0] if unseen else None,
    )


def _shown(score: Score) -> str:
    return f"{_number(score.f1)} ({_span(score.f1_interval)})"


def _span(span: tuple[float, float] | None) -> str:
    return "-" if span is None else f"{span[0]:.3f}..{span[1]:.3f}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
