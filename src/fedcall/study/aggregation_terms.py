"""What a study agrees on how updates become the next model: the strategy and its numbers."""

import math
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from fedcall.documents import Document


class KrumTerms(Document):
    """Krum and Multi-Krum keep the updates closest to their neighbours (Blanchard et al. 2017)."""

    malicious_sites: Annotated[int, Field(ge=0)] = Field(
        1, description="Sites f that may lie; the promise holds from 2 f + 3 sites on."
    )
    selected_sites: Annotated[int, Field(ge=1)] = Field(2, description="Updates that multikrum averages.")


SUM_STRATEGIES = ("fedavg", "fedadam")
"""Strategies that need no more than the weighted sum of all updates."""


class AdamTerms(Document):
    """FedAdam's server optimiser (Reddi et al. 2021); the defaults are Flower's."""

    eta: Annotated[float, Field(gt=0, allow_inf_nan=False)] = Field(
        0.1, description="Server learning rate: about the size of every weight's step, whatever the update's size."
    )
    beta_1: Annotated[float, Field(ge=0, lt=1)] = Field(0.9, description="Decay of the first moment.")
    beta_2: Annotated[float, Field(ge=0, lt=1)] = Field(0.99, description="Decay of the second moment.")
    tau: Annotated[float, Field(gt=0, allow_inf_nan=False)] = Field(
        1e-3, description="Added to the root of the second moment; larger adapts less."
    )


class AggregationTerms(Document):
    """How the aggregator turns admitted updates into the next global model."""

    strategy: Literal["fedavg", "fedmedian", "fedtrimmedavg", "krum", "multikrum", "fedadam"] = Field(
        "fedavg", description="fedavg, multikrum and fedadam weigh sites by declared patients; the others do not weigh."
    )
    server_learning_rate: Annotated[float, Field(gt=0, allow_inf_nan=False)] = Field(
        1.0, description="Share of the average that is added to the model; with fedadam it is adam.eta instead."
    )
    trim: Annotated[float, Field(gt=0, lt=0.5)] = Field(
        0.2, description="With fedtrimmedavg: share of the sites cut at each end, in every coordinate, rounded down."
    )
    krum: KrumTerms = KrumTerms()
    adam: AdamTerms = AdamTerms()
    minimum_sites: Annotated[int, Field(ge=1)] = Field(
        1, description="Updates that make an average; with fewer a round changes nothing."
    )
    deadline_minutes: Annotated[float, Field(gt=0, allow_inf_nan=False)] = Field(
        10080.0, description="A round closes this long after it opened if minimum_sites have answered."
    )

    def averaged(self, updates: int) -> int:
        """Return how many of so many updates each value of the next model is an average of, at least."""
        kept = {"fedmedian": 1, "krum": 1, "multikrum": min(self.krum.selected_sites, updates)}
        kept["fedtrimmedavg"] = updates - 2 * int(self.trim * updates)
        return kept.get(self.strategy, updates)

    @model_validator(mode="after")
    def _protects(self) -> Self:
        """Refuse terms under which a robust strategy would not be robust."""
        least = 1
        if self.strategy in ("krum", "multikrum"):
            least = 2 * self.krum.malicious_sites + 3
        elif self.strategy == "fedtrimmedavg":
            least = math.ceil(1 / self.trim)
        elif self.strategy == "fedmedian":
            least = 3
        if self.minimum_sites < least:
            raise ValueError(
                f"strategy {self.strategy} protects nobody with fewer than {least} sites"
                f" (found minimum_sites {self.minimum_sites}); raise minimum_sites, or choose fedavg"
            )
        if self.strategy == "multikrum" and self.krum.selected_sites > least - self.krum.malicious_sites:
            raise ValueError(
                f"krum.selected_sites {self.krum.selected_sites} would take in malicious sites;"
                f" at most {least - self.krum.malicious_sites} with malicious_sites {self.krum.malicious_sites}"
            )
        if self.strategy == "fedadam" and self.server_learning_rate != 1:
            raise ValueError("server_learning_rate belongs to the other strategies; with fedadam set adam.eta")
        return self
