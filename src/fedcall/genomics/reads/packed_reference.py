"""Whether the reference is the one that a CRAM was packed against: htslib's own words tell nobody that it is not."""

import hashlib
from pathlib import Path

import pysam

from fedcall.errors import FedcallError
from fedcall.genomics.index_files import htslib_name
from fedcall.genomics.reference import open_reference
from fedcall.genomics.reference_index import NAME_CHARACTERS
from fedcall.shown import shown


def refuse_other_reference(path: Path, reference: Path) -> None:
    """Refuse a CRAM some contig of which has other bases in the reference; ask when it could not be read.

    It reads the reference up to that contig, which takes seconds, so no file that can be read is asked.

    Raises
    ------
    FedcallError
        Naming the first contig whose MD5 is not the one of the CRAM's header (M5; SAM specification 1.3).
    """
    try:
        with pysam.AlignmentFile(htslib_name(path), check_sq=False) as alignments:
            contigs = alignments.header.to_dict().get("SQ", []) if alignments.is_cram else []
    except (OSError, ValueError):
        return  # what is wrong with the file itself has been said
    with open_reference(reference) as fasta:
        known = set(fasta.references)
        for contig in contigs:
            name, packed = contig["SN"], contig.get("M5")
            if packed is None or name not in known:
                continue
            if hashlib.md5(fasta.fetch(name).upper().encode(), usedforsecurity=False).hexdigest() != packed.lower():
                raise FedcallError(
                    f"{path}: packed against another reference: '{shown(name, NAME_CHARACTERS)}' has other bases in"
                    f" {reference}; use the reference the CRAM was made with"
                )
