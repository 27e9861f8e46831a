"""`fedcall audit` as a function: the scenes, the planted faults, and what to think of them."""

import textwrap
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import nullcontext
from dataclasses import asdict
from functools import partial
from multiprocessing import get_context
from typing import Any

from fedcall import __version__
from fedcall.experiments.attack import ATTACKED, attack_models, attack_report
from fedcall.experiments.documents import AttackReport, AuditReport, MeasurementReport, SceneReport, Witness
from fedcall.experiments.faults import FAULTS, unwatched
from fedcall.experiments.one_run import (
    DELTA,
    MEASUREMENT_SHARE,
    Finding,
    SceneName,
    audit_scene,
    scene_terms,
    scenes_of,
)
from fedcall.experiments.watched import PATIENTS, ROUNDS, released_fault, watch_rounds, watched_terms
from fedcall.federation.aggregator.aggregation import quiet_flower
from fedcall.privacy.accounting.epsilon import study_epsilon
from fedcall.privacy.mechanism.noise_checks import FALSE_ALARM
from fedcall.study.terms import Study


def audit(
    study: Study,
    self_check: bool,
    membership: bool = False,
    confidence: float = 0.95,
    seed: int = 1,
    threads: int = 1,
    on_part: Callable[[str], object] = lambda name: None,
) -> AuditReport:
    """Audit the training of a study's kind on made-up patients; no patient's data is read.

    Parameters
    ----------
    study : Study
        Terms; sites and weights may be missing.
    self_check : bool
        Plant each fault, too, and see whether it is caught.
    membership : bool
        Attack models trained without privacy, and with the study's, on simulated people.
    threads : int
        Parts worked on at the same time, in a process each. The report does not depend on it.
    on_part : callable
        Called with the name of each part when it is done.
    """
    # Scenes and the measurement share the chance of an accidental alarm.
    names = scenes_of(study)
    each = 1 - (1 - confidence) / (len(names) + MEASUREMENT_SHARE)
    possible = [fault for fault, planted in FAULTS.items() if self_check and planted.is_possible(study.privacy)]
    planted = {fault: scene for fault in possible if (scene := FAULTS[fault].scene) is not None}
    # The longest first, so that no worker is left with one at the end.
    parts: dict[str, Callable[[], Any]] = {}
    if membership:
        parts |= {attacked: partial(attack_models, study, seed, attacked) for attacked in ATTACKED}
    parts |= {name: partial(_audit_scene, study, name, None, each, seed) for name in reversed(names)}
    parts |= {
        fault: partial(_audit_releases, study, fault, seed)
        if scene == "rounds"
        else partial(_audit_scene, study, scene, fault, each, seed)
        for fault, scene in planted.items()
    }
    parts["rounds"] = partial(_watch, study, None, seed)
    parts |= {_watched(fault): partial(_watch, study, fault, seed) for fault in possible}
    found = _side_by_side(parts, threads, on_part)

    scenes = [*(found[name] for name in names), found["rounds"]]
    faults = [*(found[fault] for fault in planted), *(found[_watched(fault)] for fault in possible)]
    alarms = [str(scene.scene) for scene in scenes if scene.contradicts_claim]
    # Of few numbers a release shows less: then the oracle, before anything is released, is what sees a fault.
    seen = {scene.fault for scene in faults if scene.contradicts_claim}
    missed = [fault for fault in possible if fault not in seen]
    own = next((scene for scene in scenes if scene.scene == "study"), None)
    return AuditReport(
        study=study.name,
        unit=study.privacy.unit,
        mechanism=study.privacy.mechanism,
        clipping=study.privacy.clipping,
        terms=study.privacy,
        rounds=study.rounds,
        trainable=study.model.trainable,
        delta=DELTA,
        claimed_epsilon=own.claimed_epsilon if own else None,
        epsilon_lower_bound=own.epsilon_lower_bound if own else None,
        steps=scene_terms(study, "study").steps_per_round if own else None,
        steps_agreed=study.rounds * study.privacy.steps_per_round,
        confidence=confidence,
        seed=seed,
        passes=not alarms and not missed,
        sentence=_sentence(alarms, missed, len(possible), confidence),
        scenes=tuple(scenes),
        faults=tuple(faults),
        membership=attack_report(*(found[attacked] for attacked in ATTACKED)) if membership else None,
        software=f"fedcall {__version__}",
    )


def as_text(report: AuditReport) -> str:
    """Return the report as tables of at most 80 columns."""
    header = f"{'scene':<9}{'fault planted':<28}{'claimed':>8}{'proven':>7}{'right guesses':>14}  verdict"
    lines = [f"epsilon at delta {DELTA:g}, {100 * report.confidence:g} % confidence", header]
    for row in (*report.scenes, *report.faults):
        if row.scene == "rounds":
            continue
        verdict = "caught" if row.contradicts_claim and row.fault else "ALARM" if row.contradicts_claim else "quiet"
        lines.append(
            f"{row.scene:<9}{row.fault or '-':<28}{row.claimed_epsilon:>8.2f}{row.epsilon_lower_bound:>7.2f}"
            f"{f'{row.correct} of {row.guesses}':>14}  {verdict}"
        )
    lines += [
        "",
        *_witness_lines(report),
        "what the oracle of the training path saw in three rounds of eight steps",
        f"{'fault planted':<28}saw",
    ]
    for row in (*report.scenes, *report.faults):
        if row.scene == "rounds" and (row.refusal is not None or row.released is None):
            seen = row.refusal.split(";")[0] if row.refusal else "nothing"
            lines += textwrap.wrap(f"{row.fault or '-':<28}{seen}", 80, subsequent_indent=" " * 28)
    lines.append(f"(sound training would be refused with a chance below {3 * FALSE_ALARM:.0e})")
    header = f"{'measured':<9}{'fault planted':<28}{'noise claimed':>14}{'at most':>8}{'unit at least':>14}"
    lines += ["", "noise of a step's sum, and what one unit adds to it, in clip norms; beyond doubt", header]
    for row in (*report.scenes, *report.faults):
        if (found := row.measurement) is not None:
            lines.append(
                f"{row.scene:<9}{row.fault or '-':<28}{found.noise_claimed:>14.3f}{found.noise_at_most:>8.3f}"
                f"{found.contribution_at_least:>14.3f}"
            )
    if report.membership is not None:
        lines += ["", *_attack_lines(report.membership)]
    return "\n".join([*lines, "", report.sentence])


def _witness_lines(report: AuditReport) -> list[str]:
    """Return which part of the audit saw each planted fault: from outside, or the oracle that knows every sum."""
    witnesses: tuple[Witness, ...] = ("guesses", "measurement", "releases", "oracle")
    header = f"{'fault planted':<27}" + "".join(f"{witness:>12}" for witness in witnesses)
    lines = ["which part of the audit sees each planted fault", header]
    for fault in dict.fromkeys(str(row.fault) for row in report.faults):
        seen = {witness for row in report.faults if row.fault == fault for witness in row.shown_by}
        columns = "".join(f"{'yes' if witness in seen else '-':>12}" for witness in witnesses)
        lines.append(f"{fault:<27}{columns}{' only' if seen == {'oracle'} else ''}")
    return [*lines, ""] if report.faults else []


def _attack_lines(report: AttackReport) -> list[str]:
    header = f"{'who took part?':<18}{'right of 100':>19}{'AUC':>20}{'named of 100':>20}"
    lines = [f"{report.patients} simulated patients, {report.models} models; 95 % intervals", header]
    for row in (report.without_privacy, report.as_in_study):
        right, area, named = (
            f"{scale * one.value:.{places}f} ({scale * one.low:.{places}f}-{scale * one.high:.{places}f})"
            for one, scale, places in ((row.accuracy, 100, 0), (row.auc, 1, 2), (row.named, 100, 0))
        )
        lines.append(f"{row.model:<18}{right:>19}{area:>20}{named:>20}")
    own = report.as_in_study
    if own.most_accuracy is not None and own.most_named is not None:
        promised = f"epsilon {own.epsilon:.2f}:"
        lines.append(
            f"{promised:<18}{f'at most {100 * own.most_accuracy:.0f}':>19}"
            f"{'':>20}{f'at most {100 * own.most_named:.0f}':>20}"
        )
    lines.append(f"{'guessing':<18}{'50':>19}{'0.50':>20}{f'{100 * report.false_alarms:g}':>20}")
    return [*lines, f"(named of 100 members, while {100 * report.false_alarms:g} of 100 others are named)"]


def _side_by_side(
    parts: Mapping[str, Callable[[], Any]], threads: int, on_part: Callable[[str], object]
) -> dict[str, Any]:
    found = {}
    if threads == 1:
        for name, part in parts.items():
            found[name] = part()
            on_part(name)
        return found
    # A process each, fresh: a fault is planted in the whole of the process.
    with ProcessPoolExecutor(min(threads, len(parts)), get_context("spawn"), quiet_flower) as pool:
        running = {pool.submit(part): name for name, part in parts.items()}
        for done in as_completed(running):
            found[running[done]] = done.result()
            on_part(running[done])
    return found


def _audit_scene(study: Study, scene: SceneName, fault: str | None, confidence: float, seed: int) -> SceneReport:
    # The oracle would refuse before guesses or measurement could show anything.
    with FAULTS[fault].plant() if fault else nullcontext(), unwatched() if fault else nullcontext():
        found = audit_scene(study, scene, confidence, seed)
    return _report(found, fault)


def _audit_releases(study: Study, fault: str, seed: int) -> SceneReport:
    with FAULTS[fault].plant(), unwatched():
        return _rounds(study, fault, None, released_fault(study, seed))


def _watched(fault: str) -> str:
    return f"{fault} (oracle)"


def _watch(study: Study, fault: str | None, seed: int) -> SceneReport:
    with FAULTS[fault].plant() if fault else nullcontext():
        refusal = watch_rounds(study, seed).refusal
    return _rounds(study, fault, refusal, None if fault else released_fault(study, seed))


def _rounds(study: Study, fault: str | None, refusal: str | None, released: str | None) -> SceneReport:
    shows: dict[Witness, bool] = {"releases": released is not None, "oracle": refusal is not None}
    return SceneReport(
        scene="rounds",
        fault=fault,
        claimed_epsilon=study_epsilon(watched_terms(study), ROUNDS).pld,
        delta=DELTA,
        canaries=PATIENTS,
        guesses=0,
        correct=0,
        epsilon_lower_bound=0.0,
        measurement=None,
        contradicts_claim=any(shows.values()),
        shown_by=tuple(name for name, is_shown in shows.items() if is_shown),
        refusal=refusal,
        released=released,
        false_alarm=ROUNDS * FALSE_ALARM,
    )


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
        measurement=None if (one := found.measurement) is None else MeasurementReport(**asdict(one)),
        contradicts_claim=found.caught,
        shown_by=tuple(
            name
            for name, shows in (
                ("guesses", found.outguessed),
                ("measurement", found.measurement is not None and found.measurement.contradicts_claim),
            )
            if shows
        ),
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
