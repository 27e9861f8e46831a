"""One point of accuracy against epsilon: a study trained with more or less noise, scored on held-out people."""

import math
import tempfile
from collections import Counter
from pathlib import Path

from pydantic import ValidationError

from fedcall.documents import describe
from fedcall.errors import FedcallError
from fedcall.experiments.cohort import ScoredPerson, StudyCohort
from fedcall.experiments.federation import federate, with_sites
from fedcall.experiments.utility_documents import Counts, PersonScore, UtilityPoint
from fedcall.genomics.calling.calls import Provenance, write_calls
from fedcall.genomics.concordance.comparison import Concordance, Rarity, compare
from fedcall.genomics.concordance.figures import Tally
from fedcall.genomics.truth.allele_counts import write_allele_counts
from fedcall.model.caller import VariantCaller, build_model, model_from_weights, posteriors, weights_of
from fedcall.privacy.accounting.epsilon import noise_multiplier_for, study_epsilon
from fedcall.progress import progress
from fedcall.study.terms import Study
from fedcall.weights import Weights


def utility_point(
    study: Study, epsilon: float | None, cohort: StudyCohort, initial: VariantCaller, seed: int = 1
) -> UtilityPoint:
    """Train all rounds of a study and score its last model, the one it started from, and the fresh one.

    Parameters
    ----------
    study : Study
        Terms; sites, keys and weights may be missing. Only the noise is changed.
    epsilon : float or None
        Total of the study; infinity trains without noise. None keeps the study's own noise.
    cohort : StudyCohort
    initial : VariantCaller
        The first global model.
    seed : int
        Of sampling and noise, in place of the sites' secrets, which nobody here needs. Equal seeds, equal points.

    Raises
    ------
    FedcallError
        If no noise reaches epsilon, or the terms do not allow that noise with these people (adaptive clipping).
    """
    terms = study.privacy
    noise = terms.noise_multiplier if epsilon is None else _noise(study, epsilon)
    terms = terms.model_copy(update={"noise_multiplier": noise, "max_epsilon": None})
    patients = {site: len(own) for site, own in cohort.training.items()}
    try:
        whole = with_sites(study.model_copy(update={"privacy": terms}), patients)
    except ValidationError as error:  # terms that suit the study's own noise may not suit this one
        raise FedcallError(f"study '{study.name}' at noise multiplier {noise:g}: {describe(error)}") from None
    secret = b"utility against privacy" + seed.to_bytes(9, "big")
    with progress("training", study.rounds, "rounds") as done:
        tensors = federate(whole, weights_of(initial), cohort.training, secret, done.advance)
    return UtilityPoint(
        study=study.name,
        unit=terms.unit,
        mechanism=terms.mechanism,
        clipping=terms.clipping,
        rounds=study.rounds,
        delta=terms.delta,
        noise_multiplier=noise,
        epsilon=study_epsilon(terms, study.rounds).pld if noise else None,
        asked=None if epsilon is None or math.isinf(epsilon) else epsilon,
        is_own=epsilon is None,
        seed=seed,
        patients=patients,
        rare_copies=cohort.rare_copies,
        trained=score(model_from_weights(Weights(tensors, {}), "trained model"), cohort),
        start=score(initial, cohort),
        likelihood=score(build_model(), cohort),
    )


def score(model: VariantCaller, cohort: StudyCohort) -> tuple[PersonScore, ...]:
    """Call every held-out person and compare with the truth: what `fedcall call` and `fedcall concordance` do."""
    # What is rare in the cohort counts as carried once: the stratum's only group that matters here.
    copies = Counter({allele: 1 if n <= cohort.rare_copies else n for allele, n in cohort.copies.items()})
    with tempfile.TemporaryDirectory(prefix="fedcall-utility-") as folder:
        table = Path(folder) / "allele_counts.tsv"
        write_allele_counts(table, copies)
        return tuple(_score(model.eval(), person, Path(folder), table) for person in cohort.held_out)


def _score(model: VariantCaller, person: ScoredPerson, folder: Path, table: Path) -> PersonScore:
    calls = folder / f"{person.name}.vcf.gz"
    found = posteriors(model, person.examples)
    write_calls(calls, person.examples, found, person.reference, person.name, Provenance("an experiment's"))
    concordance = compare(person.truth, calls, person.regions, person.reference, rarity=Rarity(table))
    return PersonScore(
        patient=person.name,
        regions_digest=concordance.regions_digest,
        snps=tuple(_counts(block.snps) for block in concordance.blocks),
        indels=None
        if concordance.label_types == "snps"
        else tuple(_counts(block.indels or Tally()) for block in concordance.blocks),
        rare=_rare(concordance),
    )


def _counts(tally: Tally) -> Counts:
    return tally.truth, tally.tp, tally.calls, tally.tp_calls


def _rare(concordance: Concordance) -> tuple[int, int]:
    for row in concordance.strata:
        if (row.type, row.stratum, row.value) == ("snps", "allele count", "1 (rare)"):
            return row.figures.tp + row.figures.fn, row.figures.tp
    return 0, 0


def _noise(study: Study, epsilon: float) -> float:
    if math.isinf(epsilon):
        return 0.0
    try:
        return noise_multiplier_for(study.privacy, study.rounds, epsilon)
    except ValueError as error:
        raise FedcallError(f"study '{study.name}': {error}") from None
