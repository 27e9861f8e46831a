"""The last step before an update becomes a file: it is hidden as the study says, and what it was is never written."""

from collections.abc import Mapping

import numpy as np

from fedcall.protection.envelope import Envelope
from fedcall.protection.masks import Release, mask_update
from fedcall.study.terms import Study


def protect(
    study: Study, release: Release, secret: bytes, tensors: Mapping[str, np.ndarray]
) -> tuple[Mapping[str, np.ndarray], Envelope | None]:
    """Return the tensors that may leave the site, and what the claim says of how they are hidden.

    In mode plain these are the tensors as they are, and nothing.
    """
    if study.protection.mode == "plain":
        return tensors, None
    helpers = {helper.name: helper.hpke_key for helper in study.protection.helpers}
    masked = mask_update(tensors, release, secret, helpers)
    return masked.tensors, masked.envelope
