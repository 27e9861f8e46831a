"""`fedcall audit` as a function: the scenes, the planted faults, and what to think of them."""

from collections.abc import Callable

from fedcall.experiments.documents import AuditReport, SceneReport
from fedcall.experiments.faults import FAULTS
from fedcall.experiments.one_run import DELTA, SCENES, Finding, audit_scene
from fedcall.federation.study import Study


def audit(
    study: Study,
    self_check: bool,
    confidence: float = 0.95,
    seed: int = 1,
    on_part: Callable[[str], object] = lambda name: None,
) -> AuditReport:
    """Audit the training of a study's kind on made-up patients; no patient's data is read.

    Parameters
    ----------
    study : Study
        Terms; sites and weights may be missing.
    self_check : bool
        Plant each fault, too, and see whether it is caught.
    on_part : callable
        Called with the name of each part before it begins.
    """
    # An accidental alarm of one of three scenes must not be likelier than one alone would be.
    each = 1 - (1 - confidence) / len(SCENES)
    scenes, faults = [], []
    for name in SCENES:
        on_part(name)
        scenes.append(_report(audit_scene(study, name, each, seed), None))
    for fault, planted in FAULTS.items() if self_check else ():
        if planted.only_patients and study.privacy.unit == "example":
            continue
        on_part(fault)
        with planted.plant():
            faults.append(_report(audit_scene(study, planted.scene, each, seed), fault))
    alarms = [str(scene.scene) for scene in scenes if scene.contradicts_claim]
    missed = [str(scene.fault) for scene in faults if not scene.contradicts_claim]
    return AuditReport(
        study=study.name,
        unit=study.privacy.unit,
        mechanism=study.privacy.mechanism,
        clipping=study.privacy.clipping,
        confidence=confidence,
        seed=seed,
        passes=not alarms and not missed,
        sentence=_sentence(alarms, missed, len(faults), confidence),
        scenes=tuple(scenes),
        faults=tuple(faults),
    )


def as_text(report: AuditReport) -> str:
    """Return the report as tables of at most 80 columns."""
    header = f"{'scene':<10}{'fault planted':<29}{'claimed':>8}{'proven':>8}{'right guesses':>15}  verdict"
    lines = [f"epsilon at delta {DELTA:g}, {100 * report.confidence:g} % confidence", header]
    for row in (*report.scenes, *report.faults):
        verdict = "caught" if row.contradicts_claim and row.fault else "ALARM" if row.contradicts_claim else "quiet"
        lines.append(
            f"{row.scene:<10}{row.fault or '-':<29}{row.claimed_epsilon:>8.2f}{row.epsilon_lower_bound:>8.2f}"
            f"{f'{row.correct} of {row.guesses}':>15}  {verdict}"
        )
    return "\n".join([*lines, report.sentence])


def _report(found: Finding, fault: str | None) -> SceneReport:
    return SceneReport(
        scene=found.scene,
        fault=fault,
        claimed_epsilon=found.claimed,
        delta=DELTA,
        canaries=found.guesses.canaries,
        guesses=found.guesses.made,
        correct=found.guesses.correct,
        epsilon_lower_bound=found.lower_bound,
        contradicts_claim=found.caught,
    )


def _sentence(alarms: list[str], missed: list[str], planted: int, confidence: float) -> str:
    if alarms:
        return (
            f"Training leaks more than it claims ({', '.join(alarms)}; {100 * confidence:g} % confidence): do not train"
            " on patients with this installation, and report it."
        )
    text = "Nothing contradicts the claimed privacy loss"
    if missed:
        return f"{text}, but the audit does not see: {', '.join(missed)}."
    return f"{text}; {f'all {planted} planted faults were caught' if planted else 'no fault was planted'}."
