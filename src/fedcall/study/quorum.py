"""How many sites must have answered before a round may close without the others."""

import math

from fedcall.errors import FedcallError
from fedcall.study.aggregation_terms import AggregationTerms
from fedcall.study.terms import Study


def least_sites(sites: int) -> int:
    """Return how many of so many sites must have answered before a round may close without the others.

    One hospital alone never makes the next model of a consortium: two of two, and from three on two thirds.

    >>> [least_sites(sites) for sites in (1, 2, 3, 4, 9)]
    [1, 2, 2, 3, 6]
    """
    return 1 if sites == 1 else max(2, math.ceil(2 * sites / 3))


def with_least_sites(terms: Study, sites: int, name: str) -> AggregationTerms:
    """Return the terms of aggregation with `minimum_sites`, if nobody chose it, as it is by default.

    Raises
    ------
    FedcallError
        If fewer were chosen than may close a round; the message begins with `name`.
    """
    least, chosen = least_sites(sites), terms.aggregation.minimum_sites
    if "minimum_sites" not in terms.aggregation.model_fields_set:
        return terms.aggregation.model_copy(update={"minimum_sites": max(least, chosen)})
    if chosen < least:
        raise FedcallError(
            f"{name}: aggregation.minimum_sites {chosen} lets {chosen} of {sites} hospitals close a round; at least"
            f" {least} are needed, which is the default (leave the key out)"
        )
    return terms.aggregation
