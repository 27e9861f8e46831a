"""Indexes that are cut, damaged, or of an earlier file of the same name: told in one line, or not used."""

import gzip
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pysam
import pytest

from fedcall.errors import FedcallError
from fedcall.genomics.htslib import run_bcftools
from fedcall.genomics.reads.alignment_records import fetch_records
from fedcall.genomics.reads.opening import check_alignments
from fedcall.genomics.vcf.files import check_vcf
from fedcall.genomics.vcf.rows import open_rows
from tiny_alignments import Read, write_alignments, write_reference

LENGTH = 120_000
BASES = "".join(random.Random(6).choices("ACGT", k=LENGTH))
SPANS = [("c", 10_000, 30_000), ("c", 90_000, LENGTH), ("d", 0, LENGTH)]
KINDS = ["a.bam.bai", "b.bam.csi", "a.cram.crai", "v.vcf.gz.tbi", "w.vcf.gz.csi", "v.bcf.csi"]
DAMAGED = 60


def write_people(folder: Path, step: int) -> None:
    """Write reads and variants in all formats with their indexes, `step` bases apart: another step, another file."""
    write_reference(folder, {"c": BASES, "d": BASES[::-1]})
    generator = random.Random(step)
    reads = [
        Read(at, "100M", BASES[at : at + 100], generator.randrange(20, 40), name=f"r{at}")
        for at in range(0, LENGTH - 100, step)
    ]
    lines = [
        "##fileformat=VCFv4.2",
        *(f"##contig=<ID={contig},length={LENGTH}>" for contig in "cd"),
        '##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">',
        "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\tP",
        *(
            f"{contig}\t{at + 1}\t.\t{base}\t{'A' if base != 'A' else 'C'}\t{generator.randrange(99)}\t.\t.\tGT\t0/1"
            for contig, sequence in (("c", BASES), ("d", BASES[::-1]))
            for at, base in list(enumerate(sequence))[::step]
        ),
    ]
    write_alignments(folder, {"c": LENGTH, "d": LENGTH}, reads, "a.bam")
    (folder / "v.vcf").write_text("\n".join(lines) + "\n")
    at = {name: str(folder / name) for name in ("a.bam", "b.bam", "a.cram", "v.vcf", "v.vcf.gz", "w.vcf.gz", "v.bcf")}
    shutil.copy(at["a.bam"], at["b.bam"])
    options = ["--output-fmt-option", "seqs_per_slice=200", "--reference", str(folder / "reference.fa")]
    pysam.view("-C", *options, "-o", at["a.cram"], at["a.bam"], catch_stdout=False)
    pysam.index("-c", at["b.bam"])
    pysam.index(at["a.cram"])
    for name in ("v.vcf.gz", "w.vcf.gz"):
        pysam.tabix_compress(at["v.vcf"], at[name], force=True)
    pysam.tabix_index(at["v.vcf.gz"], preset="vcf", force=True)
    pysam.tabix_index(at["w.vcf.gz"], preset="vcf", force=True, csi=True)
    run_bcftools(folder / "v.vcf", "view", ["-Ob", "-o", at["v.bcf"], at["v.vcf"]])
    run_bcftools(folder / "v.vcf", "index", ["-f", at["v.bcf"]])


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("people")
    write_people(folder, step=25)
    return folder


@pytest.fixture
def folder(people: Path, tmp_path: Path) -> Path:
    shutil.copytree(people, tmp_path / "own")
    return tmp_path / "own"


def reader(folder: Path, kind: str, trusted: bool = True) -> Callable[[], object]:
    """Return what reads the file of an index at random, and gives back what there is."""
    path, reference = folder / (kind if kind == "v.bcf" else kind.rpartition(".")[0]), folder / "reference.fa"

    def reads() -> object:
        check_alignments(path, reference)
        spans = [("c", 0, 0, 20_000), ("c", 0, 60_000, 60_500), ("c", 0, 100_000, LENGTH)]
        found = [fetch_records(path, reference, *span).table for span in spans]
        return [(len(table), int(table[:, 0].sum())) for table in found]

    def records() -> object:
        if trusted:
            check_vcf(path, reference, "VCF")
        with open_rows(path, trust_index=trusted) as vcf:
            return [(row.contig, row.start, row.qual) for row in vcf.rows("P", SPANS)]

    return reads if path.suffix in (".bam", ".cram") else records


def is_refused(read: Callable[[], object], right: object) -> bool:
    """Return whether it is refused, in one line; what is read must be right."""
    try:
        found = read()
    except FedcallError as error:
        return "\n" not in str(error) or pytest.fail(str(error))
    return found != right and pytest.fail("read, and not all of it")


@pytest.mark.parametrize("kind", KINDS)
def test_index__of_the_file_is_used(people: Path, kind: str) -> None:
    assert reader(people, kind)()


@pytest.mark.parametrize("kind", KINDS)
def test_index__of_an_earlier_file_is_refused_and_never_believed(folder: Path, tmp_path: Path, kind: str) -> None:
    """Newer by its date than the file, as after a copy: the date says nothing."""
    (tmp_path / "other").mkdir()
    write_people(tmp_path / "other", step=30)
    right = reader(folder, kind)()
    shutil.copy(tmp_path / "other" / kind, folder / kind)
    with pytest.raises(FedcallError, match=r"the index .*; make it again with: ") as refusal:
        reader(folder, kind)()
    assert kind in str(refusal.value)
    if "am" not in kind:
        assert reader(folder, kind, trusted=False)() == right


@pytest.mark.parametrize("kind", KINDS)
def test_index__cut_anywhere_loses_nothing_in_silence(folder: Path, kind: str) -> None:
    index = folder / kind
    content = index.read_bytes()
    right = reader(folder, kind)()
    inner = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
    lines = [at + 1 for at, byte in enumerate(inner) if byte == 10]
    cuts = lines[:-1:7] if kind.endswith("crai") else range(12, len(inner) - 8, max(1, len(inner) // 15))
    for cut in cuts:
        with pysam.BGZFile(str(index), "wb") if inner is not content else open(index, "wb") as handle:
            handle.write(inner[:cut])
        assert is_refused(reader(folder, kind), right)
        if "am" not in kind:  # an index that nobody vouched for is not used
            assert not is_refused(reader(folder, kind, trusted=False), right)


@pytest.mark.parametrize("kind", KINDS)
def test_index__with_damage_is_refused_or_reads_the_same(folder: Path, kind: str) -> None:
    index = folder / kind
    content = index.read_bytes()
    right = reader(folder, kind)()
    inner = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
    generator = random.Random(kind)
    refused = 0
    for _ in range(DAMAGED):
        changed = bytearray(inner)
        changed[generator.randrange(len(changed))] ^= 1 << generator.randrange(8)
        with pysam.BGZFile(str(index), "wb") if inner is not content else open(index, "wb") as handle:
            handle.write(bytes(changed))
        refused += is_refused(reader(folder, kind), right)
    assert refused > DAMAGED // 10


def test_index__without_the_containers_in_the_middle(folder: Path) -> None:
    index = folder / "a.cram.crai"
    lines = gzip.decompress(index.read_bytes()).splitlines(keepends=True)
    index.write_bytes(gzip.compress(b"".join(lines[:5] + lines[7:])))
    with pytest.raises(FedcallError, match="does not know some reads"):
        reader(folder, "a.cram.crai")()


def test_index__of_a_bcf_older_than_the_file_is_not_believed(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    write_people(tmp_path / "other", step=30)
    shutil.copy(tmp_path / "other" / "v.bcf", folder / "v.bcf")
    right = reader(tmp_path / "other", "v.bcf")()
    assert reader(folder, "v.bcf", trusted=False)() == right


@pytest.mark.parametrize(("own", "other"), [(".bam.bai", ".bam.csi"), (".bam.bai", ".csi"), (".bam.csi", ".bam.bai")])
def test_index__every_one_that_is_read_is_held_against_the_file(
    folder: Path, tmp_path: Path, own: str, other: str
) -> None:
    """htslib takes a `.csi` before a `.bai`, under either name, and fedcall reads the `.bai` itself."""
    (tmp_path / "other").mkdir()
    write_people(tmp_path / "other", step=30)
    for kind, place in ((own, folder), (other, tmp_path / "other")):
        reads = str(place / "a.bam")
        pysam.index(*(["-c"] if kind.endswith("csi") else []), "-o", str(folder / f"x{kind}"), reads)
    shutil.copy(folder / "a.bam", folder / "x.bam")
    with pytest.raises(FedcallError, match=r"the index .*; make it again with: .*, or remove it") as refusal:
        check_alignments(folder / "x.bam", folder / "reference.fa")
    assert f"x{other}: " in str(refusal.value)


def test_index__of_a_bam_beside_a_cram_of_the_same_name(folder: Path) -> None:
    """Picard names an index NAME.bai, which is not the CRAM's."""
    shutil.copy(folder / "a.bam.bai", folder / "a.bai")
    check_alignments(folder / "a.cram", folder / "reference.fa")
    (folder / "a.cram.crai").rename(folder / "a.crai")
    check_alignments(folder / "a.cram", folder / "reference.fa")
    (folder / "a.bam.bai").unlink()
    check_alignments(folder / "a.bam", folder / "reference.fa")
