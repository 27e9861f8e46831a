"""Stand-ins for GATK and DeepVariant, which cannot be had where fedcall is built.

They check every argument and the files as the tools document it, end with the tools' exit codes, and write files of the
tools' forms. What they call is what bcftools calls. Run as `python stand_in_callers.py gatk|run_deepvariant ARGUMENT…`.
"""

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pysam
import pysam.bcftools

# GATK's Main: 1 for the command line, 2 for a user's files (UserException).
GATK_COMMAND_LINE, GATK_USER = 1, 2
DEEPVARIANT_FAILED = 1
HAPLOTYPE_CALLER = {
    "--reference",
    "--input",
    "--intervals",
    "--emit-ref-confidence",
    "--native-pair-hmm-threads",
    "--tmp-dir",
    "--output",
}
GENOTYPE_GVCFS = {"--reference", "--variant", "--intervals", "--tmp-dir", "--output"}
MODEL_TYPES = ("WGS", "WES", "PACBIO", "ONT_R104", "HYBRID_PACBIO_ILLUMINA", "MASSEQ")
DEEPVARIANT = {
    "model_type",
    "ref",
    "reads",
    "regions",
    "sample_name",
    "num_shards",
    "intermediate_results_dir",
    "output_vcf",
    "output_gvcf",
}


def install(folder: Path) -> Path:
    """Write `gatk` and `run_deepvariant` into a folder, for the front of PATH; return it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("gatk", "run_deepvariant"):
        script = folder / name
        script.write_text(f'#!/bin/sh\nexec {sys.executable} {Path(__file__).resolve()} {name} "$@"\n')
        script.chmod(0o755)
    return folder


def gatk(arguments: list[str]) -> None:
    if arguments == ["--version"]:
        print("The Genome Analysis Toolkit (GATK) v4.6.2.0\nHTSJDK Version: 4.2.0\nPicard Version: 3.4.0")
        return
    if arguments[:1] != ["--java-options"] or not arguments[1].startswith("-Xmx"):
        _end(GATK_COMMAND_LINE, f"A USER ERROR has occurred: java options expected, not {arguments[:2]}")
    tool, rest = arguments[2], arguments[3:]
    known = {"HaplotypeCaller": HAPLOTYPE_CALLER, "GenotypeGVCFs": GENOTYPE_GVCFS}.get(tool)
    if known is None:
        _end(GATK_USER, f"A USER ERROR has occurred: '{tool}' is not a valid command.")
    given = dict(zip(rest[::2], rest[1::2], strict=True))
    for name in given:
        if name not in known:
            _end(GATK_COMMAND_LINE, f"A USER ERROR has occurred: {name[2:]} is not a recognized option")
    for name in known - set(given):
        _end(GATK_COMMAND_LINE, f"A USER ERROR has occurred: Argument {name[2:]} was missing")
    reference, output = Path(given["--reference"]), Path(given["--output"])
    contigs = _dictionary(reference)
    regions = _bed(Path(given["--intervals"]), contigs)
    assert Path(given["--tmp-dir"]).is_dir()
    if tool == "HaplotypeCaller":
        if given["--emit-ref-confidence"] != "GVCF":
            _end(GATK_COMMAND_LINE, "A USER ERROR has occurred: invalid reference confidence mode")
        int(given["--native-pair-hmm-threads"])
        reads = Path(given["--input"])
        sample = _sample(reads, contigs)
        records = _called(reads, reference, Path(given["--intervals"]))
        _write(output, _gatk_header(contigs, sample, gvcf=True), _gvcf(records, regions, reference, "<NON_REF>", "."))
    else:
        variant = Path(given["--variant"])
        if not Path(f"{variant}.tbi").is_file():
            _end(GATK_USER, f"A USER ERROR has occurred: An index is required but was not found for file {variant}")
        with pysam.VariantFile(str(variant)) as source:
            sample = source.header.samples[0]
        lines = [line.split("\t") for line in pysam.BGZFile(str(variant)).read().decode().splitlines()]
        kept = [line for line in lines if not line[0].startswith("#") and line[4] != "<NON_REF>"]
        for line in kept:
            line[4] = line[4].removesuffix(",<NON_REF>")
        _write(output, _gatk_header(contigs, sample, gvcf=False), ["\t".join(line) for line in kept])


def run_deepvariant(arguments: list[str]) -> None:
    if arguments == ["--version"]:
        print("DeepVariant version 1.10.0")
        return
    if "--novcf_stats_report" not in arguments:
        _end(1, "the report of statistics was not switched off")
    given = dict(text.removeprefix("--").split("=", 1) for text in arguments if text != "--novcf_stats_report")
    for name in given:
        if name not in DEEPVARIANT:
            _end(1, f"FATAL Flags parsing error: Unknown command line flag '{name}'")
    for name in ("model_type", "ref", "reads", "output_vcf"):
        if name not in given:
            _end(1, f"--{name} is required.\nPass --helpshort or --helpfull to see help on flags.")
    if given["model_type"] not in MODEL_TYPES:
        _end(
            1,
            f"FATAL Flags parsing error: flag --model_type={given['model_type']}: value should be one of {MODEL_TYPES}",
        )
    reference, reads = Path(given["ref"]), Path(given["reads"])
    if not Path(f"{reference}.fai").is_file():
        _end(1, f"ValueError: NOT_FOUND: could not load fasta index of {reference}")
    if not Path(f"{reads}.bai").is_file():
        _end(1, f"ValueError: FAILED_PRECONDITION: Cannot query without an index: {reads}")
    rows = [line.split("\t")[:2] for line in Path(f"{reference}.fai").read_text().splitlines()]
    sizes = {name: int(length) for name, length in rows}
    with pysam.AlignmentFile(str(reads)) as file:
        if not set(file.references) & set(sizes):
            _end(
                1,
                f"ValueError: Reference contigs span {sum(sizes.values())} bases but only 0 bases (0.00%) were found in"
                " common among our input files. Check that the sources were created on a common genome.",
            )
    regions = _bed(Path(given["regions"]), sizes, DEEPVARIANT_FAILED)
    Path(given["intermediate_results_dir"]).mkdir(parents=True, exist_ok=True)
    int(given["num_shards"])
    records = _called(reads, reference, Path(given["regions"]))
    header = _deepvariant_header(sizes, given["sample_name"])
    with pysam.FastaFile(str(reference)) as bases:
        contig, start, _ = regions[0]
        base = bases.fetch(contig, start, start + 1).upper()
    other = "A" if base != "A" else "C"
    reference_call = (
        f"{contig}\t{start + 1}\t.\t{base}\t{other}\t0\tRefCall\t.\tGT:GQ:DP:AD:VAF:PL\t0/0:50:20:19,1:0.05:0,50,60"
    )
    _write(Path(given["output_vcf"]), header, [reference_call, *("\t".join(record) for record in records)])
    _write(Path(given["output_gvcf"]), header, _gvcf(records, regions, reference, "<*>", "0"))


def _end(code: int, message: str) -> None:
    print(message, file=sys.stderr)
    sys.exit(code)


def _dictionary(reference: Path) -> dict[str, int]:
    if not Path(f"{reference}.fai").is_file():
        _end(
            GATK_USER,
            f"A USER ERROR has occurred: Fasta index file {reference}.fai for reference {reference} does not exist.",
        )
    file = reference.with_suffix(".dict")
    if not file.is_file():
        _end(GATK_USER, f"A USER ERROR has occurred: Fasta dict file {file} for reference {reference} does not exist.")
    rows = [line.split("\t") for line in file.read_text().splitlines() if line.startswith("@SQ")]
    return {row[1].removeprefix("SN:"): int(row[2].removeprefix("LN:")) for row in rows}


def _bed(path: Path, contigs: dict[str, int], code: int = GATK_USER) -> list[tuple[str, int, int]]:
    if path.suffix != ".bed":  # without the suffix GATK takes it for a list of intervals that start at 1
        _end(GATK_USER, f"A USER ERROR has occurred: Badly formed genome unclippedLoc: {path}")
    spans = [(row[0], int(row[1]), int(row[2])) for row in (line.split("\t") for line in path.read_text().splitlines())]
    for contig, start, end in spans:
        if contig not in contigs or not 0 <= start < end <= contigs[contig]:
            said = "A USER ERROR has occurred: Badly formed genome unclippedLoc" if code == GATK_USER else "ValueError"
            _end(code, f"{said}: {contig}:{start}-{end}")
    assert spans == sorted(spans, key=lambda span: (list(contigs).index(span[0]), span[1]))
    return spans


def _sample(reads: Path, contigs: dict[str, int]) -> str:
    if not Path(f"{reads}.bai").is_file():
        _end(
            GATK_USER,
            "A USER ERROR has occurred: Traversal by intervals was requested but some input files are not indexed.",
        )
    with pysam.AlignmentFile(str(reads)) as file:
        if not set(file.references) & set(contigs):
            _end(
                GATK_USER,
                "A USER ERROR has occurred: Input files reference and reads have incompatible contigs",
            )
        named = {group.get("SM") for group in file.header.to_dict().get("RG", [])}
    if len(named) != 1:
        _end(GATK_USER, "A USER ERROR has occurred: The sample list cannot be null or empty")
    return str(named.pop())


def _called(reads: Path, reference: Path, bed: Path) -> list[list[str]]:
    """Return the records that bcftools calls, with GT, AD, DP, GQ and PL."""
    with tempfile.TemporaryDirectory() as folder:
        likelihoods = f"{folder}/likelihoods.bcf"
        common = ["-q1", "-a", "FORMAT/AD,FORMAT/DP", "-f", str(reference), "-R", str(bed), "-Ob", "-o", likelihoods]
        pysam.bcftools.mpileup(*common, str(reads), catch_stdout=False)
        pysam.bcftools.call("-mv", "-a", "GQ", "-Ov", "-o", f"{folder}/calls.vcf", likelihoods, catch_stdout=False)
        text = Path(f"{folder}/calls.vcf").read_text()
    records = [line.split("\t") for line in text.splitlines() if not line.startswith("#")]
    for record in records:
        fields = dict(zip(record[8].split(":"), record[9].split(":"), strict=True))
        record[5:10] = [
            record[5],
            ".",
            ".",
            "GT:AD:DP:GQ:PL",
            ":".join(fields[key] for key in ("GT", "AD", "DP", "GQ", "PL")),
        ]
    return records


def _gvcf(
    records: list[list[str]], regions: list[tuple[str, int, int]], reference: Path, symbol: str, quality: str
) -> Iterator[str]:
    """Yield variants with the symbolic allele, and blocks without variation between them."""
    with pysam.FastaFile(str(reference)) as bases:
        for contig, start, end in regions:
            at = start
            inside = [record for record in records if record[0] == contig and start < int(record[1]) <= end]
            for record in [*inside, None]:
                until = end if record is None else int(record[1]) - 1
                if at < until:
                    base = bases.fetch(contig, at, at + 1).upper()
                    fixed = f"{contig}\t{at + 1}\t.\t{base}\t{symbol}\t{quality}\t.\tEND={until}"
                    yield f"{fixed}\tGT:GQ:MIN_DP:PL\t0/0:50:20:0,60,900"
                if record is not None:
                    keys, values = record[8].split(":"), record[9].split(":")
                    values[keys.index("AD")] += ",0"
                    values[keys.index("PL")] += ",990" * (len(record[4].split(",")) + 2)
                    yield "\t".join([*record[:4], f"{record[4]},{symbol}", *record[5:9], ":".join(values)])
                    at = max(at, int(record[1]) - 1 + len(record[3]))


def _gatk_header(contigs: dict[str, int], sample: str, gvcf: bool) -> list[str]:
    tool = "HaplotypeCaller" if gvcf else "GenotypeGVCFs"
    return [
        "##fileformat=VCFv4.2",
        '##ALT=<ID=NON_REF,Description="Represents any possible alternative allele not already represented">',
        '##FILTER=<ID=LowQual,Description="Low quality">',
        *_formats(),
        f'##GATKCommandLine=<ID={tool},CommandLine="{tool} --output /somebody/x.vcf",Version="4.6.2.0",Date="x">',
        '##INFO=<ID=END,Number=1,Type=Integer,Description="Stop position of the interval">',
        *(f"##contig=<ID={name},length={length}>" for name, length in contigs.items()),
        f"##source={tool}",
        f"#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\t{sample}",
    ]


def _deepvariant_header(contigs: dict[str, int], sample: str) -> list[str]:
    return [
        "##fileformat=VCFv4.2",
        '##FILTER=<ID=PASS,Description="All filters passed">',
        '##FILTER=<ID=RefCall,Description="Genotyping model thinks this site is reference.">',
        '##INFO=<ID=END,Number=1,Type=Integer,Description="End position (for use with symbolic alleles)">',
        *_formats(),
        '##FORMAT=<ID=VAF,Number=A,Type=Float,Description="Variant allele fractions.">',
        "##DeepVariant_version=1.10.0",
        *(f"##contig=<ID={name},length={length}>" for name, length in contigs.items()),
        f"#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\t{sample}",
    ]


def _formats() -> list[str]:
    kinds = {"GT": "1,Type=String", "GQ": "1,Type=Integer", "DP": "1,Type=Integer", "MIN_DP": "1,Type=Integer"}
    kinds |= {"AD": "R,Type=Integer", "PL": "G,Type=Integer"}
    return [f'##FORMAT=<ID={name},Number={kind},Description="{name}">' for name, kind in kinds.items()]


def _write(path: Path, header: list[str], records: Iterator[str] | list[str]) -> None:
    with pysam.BGZFile(str(path), "w") as handle:
        for line in [*header, *records]:
            handle.write(line.encode() + b"\n")
    pysam.tabix_index(str(path), preset="vcf", force=True)


if __name__ == "__main__":
    {"gatk": gatk, "run_deepvariant": run_deepvariant}[sys.argv[1]](sys.argv[2:])
