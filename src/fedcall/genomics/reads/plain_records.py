"""Spell reads plainly: no "=" for a base, and no gap directly beside another gap.

A deletion beside an insertion (3D2I, 2I3D) replaces bases by another number of bases. The reads say the same with one
gap and substitutions beside it, which are candidates of their own; so the bases in common are laid on the reference.
"""

from dataclasses import replace

import numpy as np

from fedcall.genomics.alleles import MAX_INDEL_LENGTH
from fedcall.genomics.reads import record_fields as fields
from fedcall.genomics.reads.alignment_records import Records
from fedcall.genomics.reads.plain_record_kernels import write_plain_bases, write_plain_cigars


def spell_plainly(records: Records, reference: np.ndarray, start: int) -> Records:
    """Return the same reads with plain bases and CIGARs; where all are plain already, the records themselves.

    Parameters
    ----------
    reference : uint8, 0..3 = ACGT, 4 = other; from position `start` on
    """
    if records.unusual == 0:
        return records
    write_plain_bases(records.buffer, records.table, reference, start)
    table = records.table.copy()
    cigars = np.empty(int(table[:, fields.CIGAR_OPS].sum()), np.uint32)
    size = write_plain_cigars(records.buffer, table, reference, start, MAX_INDEL_LENGTH, len(records.buffer), cigars)
    buffer = records.extended(cigars[:size].astype("<u4").view(np.uint8))
    return replace(records, buffer=buffer, table=table, unusual=0)
