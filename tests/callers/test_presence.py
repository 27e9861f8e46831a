"""What a caller lacks is told before any job."""

from pathlib import Path

import pysam
import pytest

from fedcall.callers.catalogue import CATALOGUE, deepvariant_model
from fedcall.callers.preparation import prepare_reference, write_regions
from fedcall.callers.presence import missing_line, refuse_missing, refuse_reads
from fedcall.errors import FedcallError


@pytest.mark.parametrize(
    ("caller", "command", "way"),
    [
        ("freebayes", "freebayes", "conda"),
        ("gatk", "gatk", "conda"),
        ("deepvariant", "run_deepvariant", "apptainer"),
    ],
)
def test_refuse_missing__names_command_and_ways(
    caller: str, command: str, way: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FedcallError, match=rf"'{caller}' needs the command '{command}'.*--sdm {way}"):
        refuse_missing(["bcftools", caller])  # type: ignore[list-item]
    refuse_missing([caller], {way})  # type: ignore[list-item]
    other = "apptainer" if way == "conda" else "conda"
    assert missing_line(caller, {other}) is not None  # type: ignore[arg-type]
    (tmp_path / command).write_text("#!/bin/sh\n")
    (tmp_path / command).chmod(0o755)
    refuse_missing([caller])  # type: ignore[list-item]
    refuse_missing(["bcftools"])  # fedcall carries it


@pytest.mark.parametrize("platform", ["PACBIO", "ONT"])
@pytest.mark.parametrize("caller", CATALOGUE)
def test_refuse_reads__long_reads_are_not_for_short_read_callers(caller: str, platform: str) -> None:
    if caller in ("bcftools", "deepvariant"):
        refuse_reads("P", platform, None, Path("genome.fa"), [caller])  # type: ignore[arg-type, list-item]
        return
    with pytest.raises(FedcallError, match=rf"caller '{caller}' is for short reads .* says {platform}"):
        refuse_reads("P", platform, None, Path("genome.fa"), [caller])  # type: ignore[arg-type, list-item]


def test_refuse_reads__gatk_needs_a_read_group(tmp_path: Path, reference: Path) -> None:
    header = {"HD": {"VN": "1.6", "SO": "coordinate"}, "SQ": [{"SN": "a", "LN": 216}, {"SN": "b", "LN": 216}]}
    path = tmp_path / "p.bam"
    pysam.AlignmentFile(str(path), "wb", header=header).close()
    pysam.index(str(path))
    with pytest.raises(FedcallError, match=r"no read group .* samtools addreplacerg -r ID:P -r SM:P"):
        refuse_reads("P", "WGS", path, reference, ["gatk"])
    refuse_reads("P", "WGS", path, reference, ["freebayes", "deepvariant"])
    pysam.AlignmentFile(str(path), "wb", header={**header, "RG": [{"ID": "P", "SM": "P"}]}).close()
    refuse_reads("P", "WGS", path, reference, ["gatk"])


def test_deepvariant_model__every_platform_has_one() -> None:
    names = {platform: deepvariant_model(platform) for platform in CATALOGUE["deepvariant"].platforms}
    assert names == {"WGS": "WGS", "WES": "WES", "PACBIO": "PACBIO", "ONT": "ONT_R104"}


@pytest.mark.parametrize("bgzipped", [False, True])
def test_prepare_reference__plain_with_index_and_dictionary(bgzipped: bool, tmp_path: Path, reference: Path) -> None:
    given = reference
    if bgzipped:
        given = tmp_path / "zipped.fa.gz"
        with pysam.BGZFile(str(given), "wb") as handle:
            handle.write(reference.read_bytes())
        pysam.faidx(str(given))
    output = tmp_path / "made" / "genome.fa"
    prepare_reference(given, output)
    prepare_reference(given, output)  # again, over what is there
    assert output.is_symlink() is not bgzipped
    assert output.read_bytes() == reference.read_bytes()
    with pysam.FastaFile(str(output)) as fasta:
        assert fasta.fetch("b", 3, 7) == "TTGC"
    lines = output.with_suffix(".dict").read_text().splitlines()
    assert lines == ["@HD\tVN:1.6", "@SQ\tSN:a\tLN:216", "@SQ\tSN:b\tLN:216"]


def test_write_regions__merged_in_the_order_of_the_reference(tmp_path: Path, reference: Path) -> None:
    (tmp_path / "odd.bed").write_text("track name=x\nb\t5\t9\tname\na\t7\t20\na\t1\t10\n")
    assert write_regions(reference, tmp_path / "out.bed", tmp_path / "odd.bed") == 23
    assert (tmp_path / "out.bed").read_text() == "a\t1\t20\nb\t5\t9\n"
    assert write_regions(reference, tmp_path / "all.bed") == 432
