"""Adaptive clipping in the privacy report: how the clip norm moved, and what measuring it took of the budget."""

from collections.abc import Sequence

from fedcall.privacy.mechanism.adaptive_clipping import clip_norms, count_share, sum_multiplier
from fedcall.reporting.privacy.documents import AdaptiveClipping, ClipRound
from fedcall.reporting.privacy.rounds import RoundRecord
from fedcall.study.terms import Study


def adaptive_clipping(study: Study, site: str, records: Sequence[RoundRecord]) -> AdaptiveClipping | None:
    """Return what adaptive clipping did at a site, by its claims; None for a study of fixed clipping."""
    terms = study.privacy
    if terms.adaptation is None:
        return None
    return AdaptiveClipping(
        target_quantile=terms.adaptation.target_quantile,
        quantile_noise=terms.adaptation.quantile_noise,
        budget_share=count_share(terms, study.units(site)),
        sum_multiplier=sum_multiplier(terms, study.units(site)),
        rounds=tuple(
            ClipRound(
                round=record.round,
                start=norms[0],
                end=norms[-1],
                smallest=min(norms),
                largest=max(norms),
                norms=norms,
            )
            for record in records
            if record.claim.clipping is not None
            for norms in [clip_norms(terms, record.claim.clipping)]
        ),
    )


def clipping_statement(study: Study) -> str:
    """Return how gradients are clipped, and the share of the budget it takes at each site (point 9)."""
    terms = study.privacy
    if terms.adaptation is None:
        return "the clip norm is fixed, so adaptive clipping took no share of the budget"
    shares = ", ".join(
        f"{100 * count_share(terms, study.units(site.name)):.2g} % at {site.name} (noise on the sum"
        f" {sum_multiplier(terms, study.units(site.name)):.4g})"
        for site in study.sites
    )
    return (
        "the clip norm is adaptive: it starts there and follows the norm that"
        f" {100 * terms.adaptation.target_quantile:g} % of the {terms.unit}s stay below, measured with noise"
        f" {terms.adaptation.quantile_noise:g} in every step; the measurement takes its share of the same budget,"
        f" {shares}, so epsilon is not changed by it"
    )
