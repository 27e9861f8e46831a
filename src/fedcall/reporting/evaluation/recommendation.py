"""Which model to use: the rule, its verdict, and the evaluation's headline."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fedcall.errors import FedcallError
from fedcall.files import write_bytes
from fedcall.genomics.concordance.pool import difference_interval, pool
from fedcall.reporting.evaluation.documents import Advice, Difference, JudgeFigures, Measure, Recommendation, Scope
from fedcall.reporting.evaluation.inputs import Result, of_caller, people_of
from fedcall.study.gain import estimate_gain, gain_sentence
from fedcall.study.judgement import Verdict, judge_terms
from fedcall.study.terms import Study

LEAST_PEOPLE = 6
"""With five, even a model that is better for each of them may be no better: 2 · 2⁻⁵ > 5 % (two-sided sign test)."""

GATE_RULE = (
    "The jointly trained model is to be used only if a gain in F1 is seen, its 95 % interval above zero, on people and"
    " regions that no model was trained on. A difference that may be chance keeps the first model."
)
HEADLINES: dict[Advice, str] = {
    "use": "Use final.safetensors",
    "no-difference": "Keep initial.safetensors: no difference was seen",
    "worse": "Keep initial.safetensors: the jointly trained model is worse",
    "cannot-tell": "Cannot tell which model is better",
}
_MODELS = {"use": "final", "no-difference": "initial", "worse": "initial"}
NOBODY = (
    "This study has no held-out public people with a truth (split 'holdout' in the sheet 'public_samples', such as"
    " reference material sequenced by the hospitals)."
)
ALL_TRAINED_ON = (
    "Every held-out public person with a truth stands in other rows of the sheets, too, and is trained on there."
)
SEEN_ONLY = (
    "They are scored only on regions that models were trained on, or that are not known to be unseen, so this says"
    " nothing about other regions; agree on evaluation.regions that nobody trains on."
)


def judge_figures(study: Study, verdict: Verdict) -> JudgeFigures:
    """Return what the signed verdict of all sites' held-out patients says."""
    if verdict.study != study.digest:
        raise FedcallError(f"the verdict is about study {verdict.study[:12]}…, not about '{study.name}'")
    terms = judge_terms(study)
    assert terms.epsilon is not None
    gain = estimate_gain(terms, verdict.sites)
    return JudgeFigures(
        patients=gain.people if gain else 0,
        sites=gain.sites if gain else 0,
        gain=gain and gain.value,
        low=gain and gain.low,
        high=gain and gain.high,
        noise_std=gain and gain.noise_std,
        clip=terms.clip,
        epsilon=terms.epsilon,
        delta=terms.delta,
        mechanism=terms.mechanism,
        sentence=gain_sentence(terms, gain),
    )


def recommend_by_judge(study: Study, figures: JudgeFigures) -> Recommendation | None:
    """Return what held-out patients decide; None if no site judged, so that public people must."""
    if figures.gain is None:
        return None
    is_unseen = bool(study.unseen_regions)
    difference = Difference(value=figures.gain, low=figures.low, high=figures.high)
    evidence = _Evidence(figures.patients, None, is_unseen, None, None, difference, "held-out patients")
    decision, why = _decide(evidence)
    where = ", in regions that nobody trained on" if is_unseen else ""
    sentence = figures.sentence[0].upper() + figures.sentence[1:]
    verdict = f"{HEADLINES[decision]}{why}. {sentence}{where}."
    verdict += f" {_KEEP}" if decision == "cannot-tell" else ""
    verdict += "" if is_unseen else f" {SEEN_ONLY}"
    return _recommendation(decision, verdict, evidence, difference)


@dataclass(frozen=True)
class _Evidence:
    """What a decision rests on."""

    people: int
    bases: int | None
    is_unseen: bool
    final: float | None
    initial: float | None
    difference: Difference
    basis: str = "public people"


@dataclass(frozen=True)
class Models:
    """Files of the two models that a study can end with."""

    initial: Path
    final: Path


def keep_recommended(gate: Recommendation, models: Models, output: Path) -> None:
    """Write a copy of the better of the two models, as far as anybody can tell: the final one only if a gain was seen.

    Raises
    ------
    FedcallError
        If that model's file is missing.
    """
    chosen = models.final if gate.decision == "use" else models.initial
    try:
        content = chosen.read_bytes()
    except OSError:
        raise FedcallError(f"{chosen}: no such model, and it is the recommended one") from None
    write_bytes(output, content)


def recommend(public: Sequence[Result], unseen: Sequence[Result], fresh: bool) -> Recommendation:
    """Compare the final with the initial model on held-out public people whom no model was trained on.

    Parameters
    ----------
    public : sequence of Result
        Results of the public people, on all their regions. People with a part that was trained on do not count.
    unseen : sequence of Result
        Their results on those of their regions that nobody trained on; they may have no bases there.
    fresh : bool
        The initial model is the untrained one.
    """
    known = any(result.is_trained_on for result in public)
    public = [result for result in public if not result.is_trained_on]
    there = [result for result in unseen if result.concordance.regions_bases > 0 and not result.is_trained_on]
    evidence = _evidence(there, is_unseen=True) or _evidence(public, is_unseen=False)
    if evidence is None:
        nothing = Difference(value=None, low=None, high=None)
        nobody = ALL_TRAINED_ON if known else NOBODY
        return _recommendation(
            "cannot-tell", f"{HEADLINES['cannot-tell']}: {_first_lower(nobody)} {_KEEP}", None, nothing
        )
    decision, why = _decide(evidence)
    started_from = f"the {'untrained' if fresh else 'public-only'} model it started from"
    verdict = (
        f"{HEADLINES[decision]}{why}. On {_described(evidence)}, F1 of the jointly trained model is"
        f" {_figure(evidence.final)}, that of {started_from} {_figure(evidence.initial)}: a difference of"
        f" {_signed(evidence.difference)}."
    )
    verdict += f" {_KEEP}" if decision == "cannot-tell" else ""
    verdict += "" if evidence.is_unseen else f" {SEEN_ONLY}"
    return _recommendation(decision, verdict, evidence, evidence.difference)


_KEEP = "Until it can be told, keep initial.safetensors."


def _decide(evidence: _Evidence) -> tuple[Advice, str]:
    low, high = evidence.difference.low, evidence.difference.high
    if evidence.people < LEAST_PEOPLE or low is None or high is None:
        return "cannot-tell", (
            f": {_number(evidence.people)} too few, a difference seen on fewer than {LEAST_PEOPLE} people may be chance"
        )
    if high < 0:
        return "worse", ""
    if low <= 0:
        return "no-difference", ""
    if not evidence.is_unseen:
        return "cannot-tell", ": a gain was seen, but not on regions that nobody trained on"
    return "use", ""


def _evidence(results: Sequence[Result], is_unseen: bool) -> _Evidence | None:
    final, initial = of_caller(results, "final"), of_caller(results, "initial")
    if not final or not initial:
        return None
    pooled, before = pool(final), pool(initial)
    after_f1, before_f1 = pooled.all.f1, before.all.f1
    if after_f1 is None or before_f1 is None:
        return None
    low, high = difference_interval(final, initial, "all") or (None, None)
    return _Evidence(
        people=people_of(results),
        bases=pooled.regions_bases,
        is_unseen=is_unseen,
        final=after_f1,
        initial=before_f1,
        difference=Difference(value=after_f1 - before_f1, low=low, high=high),
    )


def _recommendation(
    decision: Advice, verdict: str, evidence: _Evidence | None, difference: Difference
) -> Recommendation:
    recommended = _MODELS.get(decision)
    return Recommendation.model_validate(
        {
            "decision": decision,
            "passes": None if recommended is None else decision == "use",
            "recommended": recommended,
            "model": recommended and f"{recommended}.safetensors",
            "basis": evidence.basis if evidence else "public people",
            "people": evidence.people if evidence else 0,
            "on_unseen_regions": bool(evidence and evidence.is_unseen),
            "regions_bases": evidence.bases if evidence else 0,
            "rule": GATE_RULE,
            "headline": HEADLINES[decision],
            "verdict": verdict,
            "final_f1": evidence and evidence.final,
            "initial_f1": evidence and evidence.initial,
            "difference": difference,
        }
    )


def _described(evidence: _Evidence) -> str:
    people = f"{evidence.people} public {'person' if evidence.people == 1 else 'people'} who trained no model"
    return f"{people}, in regions that nobody trained on" if evidence.is_unseen else people


def _number(people: int) -> str:
    return "1 person is" if people == 1 else f"{people} people are"


def _first_lower(text: str) -> str:
    return text[0].lower() + text[1:]


def _figure(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3f}"


def on_patients(overall: Scope, fresh: bool, is_private: bool) -> str:
    """Return the figures on held-out patients in one sentence."""
    rows = {row.caller: row.f1 for row in overall.figures if row.type == "all"}
    text = (
        f"On {_people(overall.patients, overall.site)} the jointly trained"
        f" {'private ' if is_private else ''}model has F1 {_written(rows['final'])}, the"
        f" {'untrained' if fresh else 'public-only'} one {_written(rows['initial'])}"
    )
    if "bcftools" in rows:
        text += f", bcftools on the same files {_written(rows['bcftools'])}"
    return text + "."


def _people(count: int, site: str | None) -> str:
    return f"{count} held-out {'patient' if count == 1 else 'patients'}{'' if site is None else f' of {site}'}"


def _written(measure: Measure) -> str:
    if measure.value is None:
        return "unknown (no truth)"
    if measure.low is None or measure.high is None:
        return f"{measure.value:.3f}"
    return f"{measure.value:.3f} ({measure.low:.3f}–{measure.high:.3f})"


def _signed(difference: Difference) -> str:
    if difference.value is None:
        return "unknown"
    text = f"{difference.value:+.3f}"
    if difference.low is not None and difference.high is not None:
        text += f" ({difference.low:+.3f} to {difference.high:+.3f})"
    return text.replace("-", "−")
