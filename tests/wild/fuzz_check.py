"""Damage every kind of input file and run `fedcall check`: `python fuzz_check.py FOLDER TIMES [SEED]`.

Prints how many of each kind were refused, in one line each; any other end of a check, a crash of htslib among them, is
a failure, and the folder holds the file that did it.
"""

import contextlib
import io
import os
import random
import sys
import traceback
from pathlib import Path

import pysam

from fedcall.cli.check import check
from fedcall.errors import FedcallError
from fedcall.genomics.htslib import run_bcftools
from fedcall.genomics.vcf.bgzip import write_vcf
from fedcall.shown import shown
from tiny_alignments import Read, write_alignments, write_reference

BASES = "".join(random.Random(6).choices("ACGT", k=6_000))
PLACES = [(at, BASES[at - 1]) for at in range(50, 5_000, 50)]
COLUMNS = ("patient", "site", "alignments", "reads1", "reads2", "truth", "regions", "split", "haploid", "private")
KINDS = {
    "P0.bam": "BAM",
    "P0.bam.bai": "its .bai",
    "P1.cram": "CRAM",
    "P1.cram.crai": "its .crai",
    "P3.bam": "BAM with .csi",
    "P3.bam.csi": "its .csi",
    "P2_1.fq": "FASTQ",
    "P2_2.fq.gz": "gzipped FASTQ",
    "P0.vcf": "VCF",
    "P1.vcf.gz": "bgzipped VCF",
    "P1.vcf.gz.tbi": "its .tbi",
    "P2.bcf": "BCF",
    "P3.g.vcf.gz": "gVCF",
    "r.bed": "BED",
    "h.bed": "BED of one copy",
    "panel.vcf.gz": "panel",
    "panel.vcf.gz.tbi": "its .tbi",
    "reference.fa": "FASTA",
    "reference.fa.fai": "its .fai",
    "s.tsv": "sheet",
    "study.yaml": "study",
    "config.yaml": "configuration",
}


def people(folder: Path) -> None:
    """Write a run of four people: BAM, CRAM, FASTQ, and BAM with a gVCF."""
    write_reference(folder, {"c": BASES, "d": BASES[::-1]})
    for number, name in enumerate(("P0", "P1", "P3")):
        generator = random.Random(number)
        reads = []
        for at in range(0, 5_800, 40):
            bases = list(BASES[at : at + 100])
            bases[generator.randrange(100)] = "A"
            reads.append(Read(at, "100M", "".join(bases), 35, name=f"{name}r{at}"))
        write_alignments(folder, {"c": 6_000, "d": 6_000}, reads, f"{name}.bam")
    pysam.view("-C", "-T", "reference.fa", "-o", "P1.cram", "P1.bam", catch_stdout=False)
    pysam.index("P1.cram")
    Path("P3.bam.bai").unlink()
    pysam.index("-c", "P3.bam")
    for mate in (1, 2):
        reads2 = "".join(f"@r{at}/{mate}\n{BASES[at : at + 50]}\n+\n{'I' * 50}\n" for at in range(0, 5_000, 50))
        Path(f"P2_{mate}.fq").write_text(reads2)
    pysam.tabix_compress("P2_2.fq", "P2_2.fq.gz", force=True)
    for name in ("P0", "P1", "P2", "P3"):
        text = header(name) + [
            f"c\t{at}\t.\t{BASES[at - 1]}\tN\t9\tPASS\t.\tGT:GQ\t0/1:40" for at in range(50, 5_000, 50)
        ]
        Path(f"{name}.vcf").write_text("\n".join(text) + "\n")
        write_vcf(Path(f"{name}.vcf.gz"), text)
    run_bcftools(Path("P2.vcf.gz"), "view", ["-Ob", "-o", "P2.bcf", "P2.vcf.gz"])
    blocks = [
        f"c\t{at}\t.\t{BASES[at - 1]}\t<NON_REF>\t.\t.\tEND={at + 99}\tGT:GQ\t0/0:50" for at in range(1, 5_000, 100)
    ]
    write_vcf(Path("P3.g.vcf.gz"), header("P3") + blocks)
    panel = [f"c\t{at}\t.\t{base}\t{'T' if base != 'T' else 'C'}\t9\tPASS\tAC=3;AN=10" for at, base in PLACES]
    write_vcf(Path("panel.vcf.gz"), [*header("x")[:-1], header("x")[-1].rsplit("\t", 2)[0], *panel])
    Path("r.bed").write_text("c\t0\t3000\nc\t4000\t6000\nd\t0\t6000\n")
    Path("h.bed").write_text("d\t10\t5000\n")
    rows = [
        ("P0", "north", "P0.bam", "", "", "P0.vcf", "r.bed", "train", "h.bed", "no"),
        ("P1", "north", "P1.cram", "", "", "P1.vcf.gz", "r.bed", "train", "", "no"),
        ("P2", "north", "", "P2_1.fq", "P2_2.fq.gz", "P2.bcf", "r.bed", "holdout", "", "no"),
        ("P3", "north", "P3.bam", "", "", "P3.vcf", "P3.g.vcf.gz", "train", "", "no"),
    ]
    Path("s.tsv").write_text("".join("\t".join(row) + "\n" for row in (COLUMNS, *rows)))
    Path("study.yaml").write_text("name: trial\nrounds: 2\nprivacy: {delta: 0.01, noise_multiplier: 4.0}\n")
    Path("config.yaml").write_text(
        "study: study.yaml\nsamples: s.tsv\nreference: reference.fa\npanel: panel.vcf.gz\nshard_size: 100000\n"
    )


def header(sample: str) -> list[str]:
    return [
        "##fileformat=VCFv4.2",
        *(f"##contig=<ID={contig},length=6000>" for contig in "cd"),
        '##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">',
        '##FORMAT=<ID=GQ,Number=1,Type=Integer,Description="x">',
        '##INFO=<ID=END,Number=1,Type=Integer,Description="x">',
        f"#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\t{sample}",
    ]


def damage(content: bytes, generator: random.Random) -> bytes:
    """Truncate, replace, flip bits, insert or repeat."""
    size = max(1, len(content))
    at = generator.randrange(size)
    how = generator.choice(("truncate", "noise", "flip", "flip", "flip", "insert", "repeat", "nothing", "zeros"))
    if how == "truncate":
        return content[:at]
    if how == "noise":
        return generator.randbytes(generator.choice((1, 40, 3_000)))
    if how == "insert":
        return content[:at] + generator.randbytes(generator.choice((1, 3, 100))) + content[at:]
    if how == "repeat":
        return content[:at] + content[generator.randrange(size) :]
    if how == "nothing":
        return b""
    if how == "zeros":
        return content[:at] + bytes(generator.choice((1, 20, size - at))) + content[at:]
    changed = bytearray(content)
    for _ in range(generator.choice((1, 1, 2, 8))):
        changed[generator.randrange(len(changed))] ^= 1 << generator.randrange(8)
    return bytes(changed)


def end_of(configuration: Path) -> str:
    """Run the check; return how it ended."""
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            check(configuration, as_json=True, threads=1)
    except FedcallError as error:
        said = shown(error, 4_000)  # as the command line prints it
        return "refused" if said and "\n" not in said and said.isprintable() else f"not a line: {said!r}"
    except Exception:
        return traceback.format_exc()
    return "read"


def main(folder: Path, times: int, seed: int = 1) -> int:
    """Return 0 if every check ended well."""
    os.chdir(folder)
    people(folder)
    if (first := end_of(Path("config.yaml"))) != "read":
        print(f"undamaged: {first}")
        return 1
    generator = random.Random(seed)
    faults = 0
    for name, kind in KINDS.items():
        path = Path(name)
        content = path.read_bytes()
        ends = {"read": 0, "refused": 0}
        for _ in range(times):
            path.write_bytes(damage(content, generator))
            end = end_of(Path("config.yaml"))
            if end in ends:
                ends[end] += 1
                continue
            faults += 1
            Path(f"fault{faults}.{name}").write_bytes(path.read_bytes())
            print(f"{kind} ({name}), fault{faults}: {end[-1500:]}", flush=True)
        path.write_bytes(content)
        print(f"{kind}: {ends['refused']} refused, {ends['read']} read", flush=True)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2]), *(int(value) for value in sys.argv[3:])))
