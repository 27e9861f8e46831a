"""Which genotype column of a VCF is the patient's."""

from collections.abc import Sequence
from pathlib import Path

from fedcall.errors import FedcallError
from fedcall.genomics.reference_index import NAME_CHARACTERS
from fedcall.shown import shown

_LISTED = 4


def choose_sample(path: Path, samples: Sequence[str], wanted: str | None) -> str:
    """Return the wanted sample of a VCF, or its only one.

    Parameters
    ----------
    path : for messages
    samples : names of the genotype columns
    wanted : None if there is one only

    Raises
    ------
    FedcallError
        If there is none, if the wanted one is missing, or if none is wanted while there are several.
    """
    listed = ", ".join(shown(sample, NAME_CHARACTERS) for sample in samples[:_LISTED])
    if len(samples) > _LISTED:
        listed += f" and {len(samples) - _LISTED} more"
    if not samples:
        raise FedcallError(f"{path}: no sample column; a VCF with the patient's genotypes is needed")
    if wanted is None and len(samples) > 1:
        raise FedcallError(f"{path}: {len(samples)} samples ({listed}); name the patient's with --sample")
    if wanted is not None and wanted not in samples:
        said = shown(wanted, NAME_CHARACTERS)
        raise FedcallError(f"{path}: no sample '{said}' (found {listed}); name the patient's with --sample")
    return samples[0] if wanted is None else wanted
