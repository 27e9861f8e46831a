"""The last step before an update becomes a file: it is hidden as the study says, and what it was is never written."""

from collections.abc import Mapping

import numpy as np

from fedcall.errors import FedcallError
from fedcall.protection.encrypting import EncryptionKey, encrypt_update
from fedcall.protection.envelope import Envelope
from fedcall.protection.masks import Release, mask_update
from fedcall.study.terms import Study


def protect(
    study: Study,
    release: Release,
    secret: bytes,
    tensors: Mapping[str, np.ndarray],
    key: EncryptionKey | None = None,
) -> tuple[Mapping[str, np.ndarray], Envelope | None]:
    """Return the tensors that may leave the site, and what the claim says of how they are hidden.

    In modes plain and sealed these are the tensors as they are, and nothing: what seals an update is its upload. `key`
    is the holders', in mode encrypted.
    """
    if not study.sends_sums:
        return tensors, None
    helpers = {helper.name: helper.hpke_key for helper in study.protection.helpers}
    if study.protection.is_encrypted:
        if key is None:
            raise FedcallError("the study's updates are encrypted, and the holders' joint key was not given")
        encrypted = encrypt_update(tensors, release, secret, helpers, key)
        return encrypted.tensors, encrypted.envelope
    masked = mask_update(tensors, release, secret, helpers)
    return masked.tensors, masked.envelope
