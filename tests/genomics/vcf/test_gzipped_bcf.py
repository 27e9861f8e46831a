"""A BCF that was compressed with gzip: one line, and a remedy that works."""

import gzip
from pathlib import Path

import pysam
import pytest

from fedcall.errors import FedcallError
from fedcall.genomics.htslib import run_bcftools
from fedcall.genomics.vcf.rows import open_rows
from tiny_alignments import write_truth


def test_open_rows__a_bcf_compressed_with_gzip_is_refused_with_a_remedy(tmp_path: Path) -> None:
    # pysam raises NotImplementedError at it; found by fuzz_check.py.
    truth = write_truth(tmp_path, {"c": 1_000}, [(99, "A", "C", (0, 1))])
    whole, zipped = tmp_path / "whole.bcf", tmp_path / "zipped.bcf"
    with pysam.VariantFile(str(truth)) as source, pysam.VariantFile(str(whole), "wb", header=source.header) as target:
        for record in source:
            target.write(record)
    content = gzip.decompress(whole.read_bytes())
    zipped.write_bytes(gzip.compress(content))
    said = r"zipped\.bcf: BCF compressed with gzip in place of bgzip; .*bcftools view"
    with pytest.raises(FedcallError, match=said), open_rows(zipped):
        pass
    # What the message advises: inflated, it is read.
    (tmp_path / "inflated.bcf").write_bytes(content)
    again = tmp_path / "again.bcf"
    run_bcftools(zipped, "view", ["-Ob", "-o", str(again), str(tmp_path / "inflated.bcf")])
    with open_rows(again) as vcf:
        assert vcf.samples == ["p"]
