"""What a caller lacks is told before any job."""

from pathlib import Path

import pysam
import pytest

from fedcall.callers.availability import missing_line, refuse_missing, refuse_reads
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


def test_refuse_reads__gatk_needs_a_read_group(tmp_path: Path, reference: Path) -> None:
    header = {"HD": {"VN": "1.6", "SO": "coordinate"}, "SQ": [{"SN": "a", "LN": 216}, {"SN": "b", "LN": 216}]}
    path = tmp_path / "p.bam"
    pysam.AlignmentFile(str(path), "wb", header=header).close()
    pysam.index(str(path))
    with pytest.raises(FedcallError, match=r"no read group .* samtools addreplacerg -r ID:P -r SM:P"):
        refuse_reads("P", path, reference, ["gatk"])
    refuse_reads("P", path, reference, ["freebayes", "deepvariant"])
    pysam.AlignmentFile(str(path), "wb", header={**header, "RG": [{"ID": "P", "SM": "P"}]}).close()
    refuse_reads("P", path, reference, ["gatk"])
