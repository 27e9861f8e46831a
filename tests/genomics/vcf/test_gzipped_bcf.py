"""A BCF that was compressed with gzip in place of bgzip, or not at all, is read: bcftools reads it, too."""

import gzip
from pathlib import Path

import pysam
import pytest

from fedcall.errors import FedcallError
from fedcall.genomics.truth.normalise_labels import normalise_labels
from fedcall.genomics.vcf.rows import open_rows
from tiny_alignments import write_reference, write_truth


@pytest.fixture
def content(tmp_path: Path) -> bytes:
    """Bytes of a BCF of one record, inflated."""
    truth = write_truth(tmp_path, {"c": 1_000}, [(99, "A", "C", (0, 1))])
    whole = tmp_path / "whole.bcf"
    with pysam.VariantFile(str(truth)) as source, pysam.VariantFile(str(whole), "wb", header=source.header) as target:
        for record in source:
            target.write(record)
    return gzip.decompress(whole.read_bytes())


# pysam raises NotImplementedError at the first and is killed by a segmentation fault at the second.
@pytest.mark.parametrize("pack", [gzip.compress, bytes])
def test_open_rows__a_bcf_that_is_not_bgzipped_is_read(tmp_path: Path, content: bytes, pack) -> None:
    path = tmp_path / "odd.bcf"
    path.write_bytes(pack(content))
    with open_rows(path) as vcf:
        assert vcf.samples == ["p"]
        for _ in range(2):
            assert [(row.contig, row.start, row.ref, row.alts) for row in vcf.rows("p")] == [("c", 99, "A", ("C",))]
    reference = write_reference(tmp_path, {"c": "A" * 1_000})
    assert normalise_labels(path, reference, tmp_path / "o.vcf.gz").kept == 1


@pytest.mark.parametrize("pack", [gzip.compress, bytes])
@pytest.mark.parametrize("lost", [1, 20, 120])
def test_open_rows__a_bcf_that_is_not_bgzipped_and_breaks_off(tmp_path: Path, content: bytes, pack, lost: int) -> None:
    path = tmp_path / "odd.bcf"
    path.write_bytes(pack(content)[:-lost])
    with pytest.raises(FedcallError, match=r"odd\.bcf"), open_rows(path) as vcf:
        list(vcf.rows("p"))
