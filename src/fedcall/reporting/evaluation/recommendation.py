"""Which model to use: the rule, its verdict, and the evaluation's headline."""

from collections.abc import Sequence
from typing import Literal

from fedcall.genomics.concordance.pool import difference_interval
from fedcall.reporting.evaluation.documents import Difference, Gate, Measure, Scope
from fedcall.reporting.evaluation.inputs import Result, of_caller

GATE_RULE = (
    "The jointly trained model is to be used only if its F1 over all variants of public people who trained no model is"
    " not below that of the model it started from. Public people, because choosing between models by hospitals'"
    " patients would tell something about them, outside every epsilon."
)
UNJUDGED = (
    "Which model to use cannot be judged: this study has no held-out public people with a truth (split 'holdout' in the"
    " sheet 'public_samples', such as reference material sequenced by the hospitals)."
)


def judge(scope: Scope | None, public: Sequence[Result], fresh: bool) -> Gate:
    """Compare the final with the initial model on held-out public people.

    Parameters
    ----------
    scope : Scope or None
        Figures of the public people; None if there are none.
    public : sequence of Result
        Their results.
    fresh : bool
        The initial model is the untrained one.
    """
    rows = {row.caller: row.f1 for row in scope.figures if row.type == "all"} if scope else {}
    final, initial = rows.get("final"), rows.get("initial")
    if scope is None or final is None or initial is None or final.value is None or initial.value is None:
        return Gate(
            passes=None,
            recommended=None,
            model=None,
            people=0,
            rule=GATE_RULE,
            verdict=UNJUDGED,
            final_f1=None,
            initial_f1=None,
            difference=Difference(value=None, low=None, high=None),
        )
    passes = final.value >= initial.value
    low, high = difference_interval(of_caller(public, "final"), of_caller(public, "initial"), "all") or (None, None)
    difference = Difference(value=final.value - initial.value, low=low, high=high)
    people = f"{scope.patients} public {'person' if scope.patients == 1 else 'people'} who trained no model"
    relation = "not below" if passes else "below"
    model: Literal["final.safetensors", "initial.safetensors"] = (
        "final.safetensors" if passes else "initial.safetensors"
    )
    chance = "" if difference.is_certain else ", which may be chance"
    return Gate(
        passes=passes,
        recommended="final" if passes else "initial",
        model=model,
        people=scope.patients,
        rule=GATE_RULE,
        verdict=(
            f"Use {model}: on {people} the jointly trained model's F1 is {_written(final)}, {relation} that of the"
            f" {'untrained' if fresh else 'public-only'} model it started from, {_written(initial)}. The difference is"
            f" {_signed(difference)}{chance}."
        ),
        final_f1=final.value,
        initial_f1=initial.value,
        difference=difference,
    )


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
