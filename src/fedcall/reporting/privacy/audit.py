"""The audit's lower bound for the privacy report: what an attack on made-up patients proved, beside what is claimed."""

from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from fedcall.documents import describe
from fedcall.errors import FedcallError
from fedcall.experiments.documents import AuditReport, SceneReport
from fedcall.privacy.terms import PrivacyTerms
from fedcall.reporting.base.pages import power_of_ten, round_down, round_up
from fedcall.reporting.privacy.documents import Audit, AuditScene, Condition
from fedcall.study.terms import Study

SCENES = {
    "crowd": "Known patients, all of them drawn (noise, clipping)",
    "sampled": "Known patients, one in twenty drawn (sampling)",
    "alone": "Perhaps one patient beside another (division by public numbers)",
    "study": "Known patients, this study's own noise, sampling and steps",
    "rounds": "Three rounds of eight steps, all tensors, watched by the oracle of the training path",
}
NOT_RUN = (
    "No audit is part of this report: no lower bound on the loss was measured, and every epsilon here is a proven upper"
    " bound that relies on the code doing what it says. 'fedcall audit --study STUDY.yaml --output audit.json' attacks"
    " this study's training with made-up patients; with '--audit audit.json' its lower bound is shown here. In the"
    " workflow: 'snakemake audit_privacy', then 'snakemake'."
)


def read_audit(path: Path, study: Study) -> Audit:
    """Read what `fedcall audit --output` wrote.

    Raises
    ------
    FedcallError
        If the file is missing or no audit, or any term that privacy depends on is another than the study's.
    """
    try:
        found = AuditReport.model_validate_json(Path(path).read_bytes())
    except FileNotFoundError:
        raise FedcallError(f"{path}: no such file; 'fedcall audit --output' makes it") from None
    except ValidationError as error:
        raise FedcallError(f"{path}: not an audit: {describe(error)}") from None
    if found.terms is None:
        raise FedcallError(f"{path}: an older fedcall's audit, which names no terms; run 'fedcall audit' again")
    different = [
        f"{name} {audited}, here {agreed}" for name, audited, agreed in _terms(found, study) if audited != agreed
    ]
    if different:
        raise FedcallError(
            f"{path}: audits other terms than those of study '{study.name}' ({'; '.join(different)}); run"
            " 'fedcall audit' with this study"
        )
    return Audit(
        sentence=_sentence(found),
        verdict=found.sentence,
        confidence=found.confidence,
        scenes=tuple(_scene(scene) for scene in found.scenes),
        faults_planted=len(found.faults),
        faults_caught=sum(fault.contradicts_claim for fault in found.faults),
    )


def _terms(found: AuditReport, study: Study) -> Iterator[tuple[str, object, object]]:
    """Yield every term that privacy depends on, as audited and as agreed."""
    assert found.terms is not None
    yield "study", found.study, study.name
    yield "rounds", found.rounds, study.rounds
    yield "trainable", found.trainable, study.model.trainable
    for name in PrivacyTerms.model_fields:
        yield name, getattr(found.terms, name), getattr(study.privacy, name)


def audit_statement(audit: Audit | None) -> str:
    """Return point 12 of the checklist: the lower bound, or that there is none and how to get it."""
    if audit is None:
        return NOT_RUN
    return f"{audit.sentence} {audit.verdict} It tests the code; an attack that fails proves nothing about others."


def audit_conditions(audit: Audit | None) -> list[Condition]:
    """Return what the audit has to say to the traffic light: nothing if it was not run."""
    if audit is None:
        return []
    return [
        Condition(
            statement="The audit does not contradict what is claimed.",
            holds=not any(scene.contradicts_claim for scene in audit.scenes),
            otherwise="red",
            about="records",
        )
    ]


def _sentence(found: AuditReport) -> str:
    own = next((scene for scene in found.scenes if scene.scene == "study"), None)
    best = own or max(found.scenes, key=lambda scene: scene.epsilon_lower_bound)
    whose = "this study's own noise, sampling and steps" if own else "noise of the audit's own, not this study's"
    bound, claim = best.epsilon_lower_bound, best.claimed_epsilon
    proves = f"proves a loss of at least ε = {round_down(bound)}" if bound > 0 else "proves no loss"
    return (
        f"An attack on made-up patients, trained with {whose}, {proves} ({100 * found.confidence:g} % confidence),"
        f" where at most ε = {round_up(claim)} is claimed at δ = {power_of_ten(best.delta)}."
    )


def _scene(scene: SceneReport) -> AuditScene:
    return AuditScene(
        scene=SCENES.get(scene.scene, scene.scene),
        claimed_epsilon=scene.claimed_epsilon,
        delta=scene.delta,
        epsilon_lower_bound=scene.epsilon_lower_bound,
        guesses=scene.guesses,
        correct=scene.correct,
        contradicts_claim=scene.contradicts_claim,
    )
