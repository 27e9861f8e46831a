"""A real study with keys, ledger, claims and receipts, made through the library's own interfaces."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fedcall.documents import write_signed
from fedcall.experiments.documents import AuditReport, SceneReport
from fedcall.files import write_text
from fedcall.genomics.concordance.comparison import compare_variants
from fedcall.genomics.concordance.records import Variant
from fedcall.keys import create_keys, read_secret, read_signing_key
from fedcall.privacy.accounting.epsilon import study_epsilon
from fedcall.privacy.events import round_event
from fedcall.privacy.ledger.ledger import Ledger, ReleaseRequest
from fedcall.privacy.mechanism.adaptive_clipping import ClipTrace
from fedcall.privacy.terms import PrivacyTerms
from fedcall.study.claims import Claim, Receipt
from fedcall.study.terms import ModelTerms, Site, Study

ZERO = "0" * 64


@dataclass(frozen=True)
class Hospital:
    """One site's folders."""

    name: str
    keys: Path
    ledger: Path
    rounds: Path

    @property
    def patients(self) -> tuple[str, ...]:
        """Names of the training patients."""
        return tuple(f"{self.name}_{number}" for number in range(12))


@dataclass(frozen=True)
class Federation:
    """A study on disk and its sites."""

    study: Study
    path: Path
    coordinator: Path
    sites: dict[str, Hospital]


def make_federation(
    folder: Path, terms: PrivacyTerms | None = None, rounds: int = 6, name: str = "demo", sites: tuple[str, ...] = ()
) -> Federation:
    """Sign a study of two sites with twelve declared patients each."""
    sites = sites or ("north", "south")
    coordinator = folder / "private" / "coordinator"
    identity = create_keys(coordinator, "coordinator")
    hospitals, members = {}, []
    for site in sites:
        keys = folder / "private" / site / "keys"
        public = create_keys(keys, site)
        members.append(Site(name=site, public_key=public.public_key, node_key=public.node_key, patients=12))
        results = folder / "results" / name / site / "rounds"
        hospitals[site] = Hospital(site, keys, folder / "private" / site / "ledger.sqlite", results)
    study = Study(
        name=name,
        coordinator=identity.public_key,
        sites=tuple(members),
        model=ModelTerms(initial_weights="ab" * 32),
        rounds=rounds,
        privacy=terms or PrivacyTerms(noise_multiplier=4.0, sampling_rate=1.0, steps_per_round=1, delta=8e-3),
    )
    path = folder / "results" / name / "study.json"
    write_signed(path, study, read_signing_key(coordinator))
    return Federation(study, path, coordinator, hospitals)


def request(federation: Federation, site: str, number: int) -> ReleaseRequest:
    """Return what the site asks its ledger for in a round."""
    terms = federation.study.privacy
    return ReleaseRequest(
        study=federation.study.digest,
        site=site,
        round=number,
        event=round_event(terms),
        delta=terms.delta,
        max_epsilon=terms.max_epsilon,
        patients=federation.sites[site].patients,
        inputs=f"inputs of {site} {number}",
    )


def play_round(
    federation: Federation,
    site: str,
    number: int,
    status: str = "accepted",
    reason: str = "ok",
    answer: bool = True,
    clipping: ClipTrace | None = None,
) -> None:
    """Charge, claim and answer one round of a site, as training and aggregator would."""
    hospital, study = federation.sites[site], federation.study
    with Ledger.open(hospital.ledger, read_secret(hospital.keys)) as ledger:
        asked = request(federation, site, number)
        withheld = ledger.reserve(asked).state == "withheld"
        if not withheld:
            ledger.release(asked, f"{study.name} {site} {number}".encode())
        mine = {row.round for row in ledger.rows() if row.kind == "reserve" and row.study == study.digest}
    spent = study_epsilon(study.privacy, len(mine))
    epsilon = spent.pld if spent.is_finite else None
    claim = Claim(
        study=study.digest,
        site=site,
        round=number,
        outcome="withheld" if withheld else "update",
        base=ZERO,
        update=None if withheld else f"{number:064x}",
        privacy=study.privacy,
        epsilon=epsilon,
        clipping=clipping,
        ledger_head=ZERO,
        software="fedcall test",
    )
    folder = hospital.rounds / str(number)
    write_signed(folder / "claim.json", claim, read_signing_key(hospital.keys))
    if not answer:
        return
    receipt = Receipt(
        study=study.digest,
        site=site,
        round=number,
        claim=claim.digest,
        status="withheld" if withheld else status,
        reason="withheld" if withheld else reason,
        sentence="The site withheld its update." if withheld else f"The update was {status}: <{reason}>.",
        epsilon=epsilon,
        accepted_rounds=number,
        ledger_head=ZERO,
        log_head=ZERO,
    )
    write_signed(folder / "receipt.json", receipt, read_signing_key(federation.coordinator))


def write_concordances(
    folder: Path, patients: dict[str, int], misses: dict[str, float], label_types: str = "all", seed: int = 1
) -> list[Path]:
    """Write …/SITE/concordance/CALLER/PATIENT.json by really comparing variants.

    `misses` gives, per caller, the share of true variants it misses and of false ones it adds.
    """
    random = np.random.default_rng(seed)
    bases = "".join(random.choice(list("ACGT"), 20_000))
    regions = [("chr1", 0, len(bases))]

    def variant(position: int, quality: float | None = None) -> Variant:
        reference = bases[position]
        alternative = "ACGT"[("ACGT".index(reference) + 1) % 4]
        if position % 5 == 0 and label_types == "all":  # a deletion that cannot move: its base differs from the next
            reference, alternative = bases[position : position + 2], reference
        depth = None if quality is None else 30
        return Variant("chr1", position, reference, alternative, 1 + position % 2, quality, quality, depth)

    written = []
    for site, count in patients.items():
        for number in range(count):
            places = np.unique(random.integers(100, len(bases) - 100, 120)).tolist()
            for caller, share in misses.items():
                found = [place for place in places if random.random() > share]
                false = random.integers(100, len(bases) - 100, int(share * len(places))).tolist()
                calls = [variant(place, float(random.integers(5, 60))) for place in sorted({*found, *false})]
                truth = [variant(place) for place in places]
                result = compare_variants(truth, calls, regions, lambda _, start, end: bases[start:end], label_types)
                path = folder / site / "concordance" / caller / f"{site}_h{number}.json"
                write_text(path, result.model_dump_json())
                written.append(path)
    return written


def write_audit(path: Path, study: Study, own_scene: bool = True, contradicted: bool = False) -> Path:
    """Write what `fedcall audit --output` writes, with figures that no audit has to be run for."""

    def scene(name: str, claimed: float, proven: float, fault: str | None = None) -> SceneReport:
        known = {
            "scene": name,
            "fault": fault,
            "claimed_epsilon": claimed,
            "delta": 1e-5,
            "canaries": 1000,
            "guesses": 100,
            "correct": 71,
            "epsilon_lower_bound": proven,
            "contradicts_claim": proven > claimed,
            "shown_by": ("guesses",) if proven > claimed else (),
        }
        return SceneReport.model_validate({name: known.get(name) for name in SceneReport.model_fields})

    terms = study.privacy
    scenes = [scene("crowd", 2.0411, 0.6379), scene("alone", 1.5, 9.0 if contradicted else 0.0)]
    own = scene("study", 5.2173, 0.4189) if own_scene else None
    known = {
        "kind": "audit",
        "format": 1,
        "study": study.name,
        "unit": terms.unit,
        "mechanism": terms.mechanism,
        "clipping": terms.clipping,
        "terms": terms,
        "rounds": study.rounds,
        "trainable": study.model.trainable,
        "delta": 1e-5,
        "claimed_epsilon": own.claimed_epsilon if own else None,
        "epsilon_lower_bound": own.epsilon_lower_bound if own else None,
        "steps": 6 if own else None,
        "steps_agreed": 6,
        "confidence": 0.95,
        "seed": 1,
        "passes": not contradicted,
        "sentence": "Training leaks more than it claims." if contradicted else "Nothing contradicts the claim.",
        "scenes": (*scenes, own) if own else tuple(scenes),
        "faults": (scene("crowd", 2.0411, 4.4, "half the noise"),),
        "covered": "clipping",
        "not_covered": "the ledger",
        "software": "fedcall test",
    }
    report = AuditReport.model_validate({name: known.get(name) for name in AuditReport.model_fields})
    write_text(path, report.model_dump_json())
    return path
