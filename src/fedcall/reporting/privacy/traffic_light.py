"""The traffic light: its colour follows from stated conditions and nothing else."""

from collections.abc import Sequence

from fedcall.privacy.accounting.epsilon import Epsilon
from fedcall.reporting.privacy.documents import Colour, Condition, TrafficLight

RULE = (
    "Red: one of the conditions below that end in 'red' fails. Amber: none of those, but one that ends in 'amber'."
    " Green: all hold. Nothing else decides. Green is a circle, amber a triangle, red an octagon."
)
# Ponomareva et al. 2023, section 5.2.1: tier 2, "reasonable", ends at epsilon 10.
WEAK_EPSILON = 10.0


def traffic_light(conditions: Sequence[Condition], verdicts: dict[str, str]) -> TrafficLight:
    """Return the light that `conditions` give, with the verdict for its colour.

    Parameters
    ----------
    conditions : sequence of Condition
        The rule.
    verdicts : dict of str to str
        A sentence for each of green, amber and red.
    """
    shown = colour(conditions)
    return TrafficLight(
        colour=shown,
        verdict=verdicts[shown],
        rule=RULE,
        conditions=tuple(conditions),
    )


def colour(conditions: Sequence[Condition]) -> Colour:
    """Return the colour that `conditions` give."""
    failed = {condition.otherwise for condition in conditions if not condition.holds}
    return "red" if "red" in failed else "amber" if "amber" in failed else "green"


def spending_conditions(
    epsilon: float | None, max_epsilon: float | None, fits: int | None, left: int, unit: str
) -> list[Condition]:
    """Return the conditions on what has been spent, for a site or for a study's most exposed site."""
    allowed = f" ({max_epsilon:g})" if max_epsilon is not None else ""
    bound = None if epsilon is None else Epsilon(epsilon, epsilon)
    return [
        Condition(
            statement="The loss is bounded: noise was added in every round.",
            holds=epsilon is not None,
            otherwise="red",
            about="spending",
        ),
        Condition(
            statement=f"The loss is within the agreed cap{allowed}.",
            holds=max_epsilon is not None and bound is not None and not bound.exceeds(max_epsilon),
            otherwise="red",
            about="spending",
        ),
        Condition(
            statement=f"Epsilon is at most {WEAK_EPSILON:g}; Ponomareva et al. 2023 call more than that weak.",
            holds=epsilon is not None and epsilon <= WEAK_EPSILON,
            otherwise="amber",
            about="spending",
        ),
        Condition(
            statement="The bound protects a patient, not a single example.",
            holds=unit == "patient",
            otherwise="amber",
            about="spending",
        ),
        Condition(
            statement="The rounds still planned fit under the cap.",
            holds=left == 0 or (fits is not None and fits >= left),
            otherwise="amber",
            about="spending",
        ),
    ]
