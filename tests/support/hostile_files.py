"""One patient's files, as a careless instrument, another country's typewriter or an attacker would write their words.

Every field that may hold any text holds `WORDS`: names of read groups, samples, programs, filters and INFO keys,
descriptions, comments, and the FASTA's own description. Where a format says what a byte means, it is kept.
"""

from dataclasses import dataclass
from pathlib import Path

import pysam
import pysam.bcftools

WORDS = (
    b"<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
    b"\x1b[2J\x1b]0;owned\x07 {{7*7}} %s $x$ \xe2\x80\xaegnissim\xe2\x81\xa6 \xc2\x85 Universit\xe4t \r" + b"w" * 3_000
)
"""Tags, commands of a terminal, templates, marks of direction, other ends of lines, Latin-1, half a carriage return."""
KEY = WORDS.translate(None, b" ;=,\r")
"""The same without what ends an identifier of VCF."""


@dataclass(frozen=True)
class HostileFiles:
    """Where the files lie; `contig` is what the only contig is called."""

    folder: Path
    contig: bytes

    @property
    def reference(self) -> Path:
        return self.folder / "reference.fa"

    @property
    def regions(self) -> Path:
        return self.folder / "regions.bed"


def write_hostile_files(cohort: Path, patient: str, contig: bytes, folder: Path) -> HostileFiles:
    """Write reference.fa, regions.bed, reads.sam, truth.vcf and truth.g.vcf of a patient of a simulated cohort."""
    folder.mkdir(parents=True, exist_ok=True)
    made = HostileFiles(folder, contig)
    _, bases = (cohort / "reference.fa").read_bytes().split(b"\n", 1)
    made.reference.write_bytes(b">" + contig + b" " + WORDS.replace(b"\r", b"") + b"\n" + bases)
    pysam.faidx(str(made.reference))
    lines = [line.split(b"\t") for line in (cohort / "regions.bed").read_bytes().splitlines()]
    made.regions.write_bytes(b"".join(b"\t".join([contig, *line[1:3]]) + b"\n" for line in lines))
    (folder / "reads.sam").write_bytes(_alignments(cohort / f"{patient}.bam", contig))
    truth = pysam.BGZFile(str(cohort / f"{patient}.truth.vcf.gz")).read()
    (folder / "truth.vcf").write_bytes(_variants(truth, contig))
    (folder / "truth.g.vcf").write_bytes(_variants(truth, contig, gvcf=True))
    return made


def write_binary_forms(files: HostileFiles) -> tuple[Path, Path]:
    """Write reads.cram and truth.bcf, with their indexes, from what `write_hostile_files` wrote."""
    reads, truth = files.folder / "reads.cram", files.folder / "truth.bcf"
    reference, plain = str(files.reference), files.folder / "reads.sam"
    pysam.sort("-O", "cram", "--reference", reference, "-o", str(reads), str(plain))
    pysam.index(str(reads))
    pysam.bcftools.view("-Ob", "-o", str(truth), str(files.folder / "truth.vcf"), catch_stdout=False)
    pysam.bcftools.index(str(truth))
    return reads, truth


def _alignments(bam: Path, contig: bytes) -> bytes:
    header, reads = [], []
    for line in pysam.view("-h", str(bam)).encode().splitlines():
        fields = line.split(b"\t")
        if fields[0] == b"@SQ":
            length = next(field for field in fields if field.startswith(b"LN:"))
            header.append(b"\t".join([b"@SQ", b"SN:" + contig, length, b"AS:" + WORDS, b"UR:" + WORDS]))
        elif fields[0] == b"@HD":
            header.append(line)
        elif not fields[0].startswith(b"@"):
            tags = [b"RG:Z:group" if field.startswith(b"RG:Z:") else field for field in fields[11:]]
            reads.append(b"\t".join([*fields[:2], contig, *fields[3:11], *tags, b"XX:Z:" + KEY[:200].strip()]))
    more = [name + b":" + WORDS for name in (b"SM", b"LB", b"PL", b"PU", b"CN", b"DS")]
    header.append(b"\t".join([b"@RG", b"ID:group", *more]))
    header.append(b"\t".join([b"@PG", b"ID:" + WORDS, b"PN:" + WORDS, b"VN:" + WORDS, b"CL:" + WORDS]))
    header.append(b"@CO\t" + WORDS)
    return b"\n".join([*header, *reads]) + b"\n"


def _variants(text: bytes, contig: bytes, gvcf: bool = False) -> bytes:
    out, place = [b"##fileformat=VCFv4.2"], 0
    for name in (b"source", b"fedcall_caller", b"fedcall_caller_image", b"reference", b"anything"):
        out.append(b"##" + name + b"=" + WORDS)
    for kind in (b"INFO", b"FORMAT"):
        out.append(b"##" + kind + b"=<ID=" + KEY + b',Number=1,Type=String,Description="' + WORDS + b'">')
    out.append(b"##FILTER=<ID=" + KEY + b',Description="' + WORDS + b'">')
    for line in text.splitlines():
        fields = line.split(b"\t")
        if line.startswith(b"##contig"):
            out.append(b"##contig=<ID=" + contig + b",length=" + line.split(b"length=")[1])
        elif line.startswith(b"##FORMAT"):
            out.append(line)
        elif line.startswith(b"#CHROM"):
            out.append(b"\t".join([*fields[:9], WORDS.replace(b"\r", b"")]))
        elif not line.startswith(b"#"):
            start, last = int(fields[1]), int(fields[1]) + len(fields[3])
            if gvcf and start > place + 1:
                end = b"END=%d" % (start - 1)
                out.append(
                    b"\t".join([contig, b"%d" % (place + 1), KEY, b"N", b"<*>", b".", b".", end, b"GT:GQ", b"0/0:50"])
                )
            place = last - 1
            fields[0], fields[2], fields[7] = contig, KEY, KEY + b"=" + KEY
            fields[6] = KEY if start % 4 == 0 else b"PASS"
            if gvcf:
                fields[8:10] = [b"GT:GQ", fields[9].split(b":")[0] + b":60"]
            out.append(b"\t".join(fields[:10]))
    return b"\n".join(out) + b"\n"
