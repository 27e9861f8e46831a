"""`fedcall benchmark`: ourselves against a named peer, measured in the same run."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import typer

from fedcall.cli.printing import say_block
from fedcall.errors import FedcallError

if TYPE_CHECKING:
    from pydantic import BaseModel

    Result = TypeVar("Result", bound=BaseModel)

benchmark = typer.Typer(help="Measure ourselves against a named peer, both in one run.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the benchmarks."""
    app.add_typer(benchmark, name="benchmark")


@benchmark.callback()
def _group(context: typer.Context) -> None:
    from fedcall.progress import silence

    context.with_resource(silence())


@benchmark.command()
def step(
    repeats: int = typer.Option(20, "--repeats", min=1, help="Timed steps of each contender."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON instead of a table."),
) -> None:
    """Time a private training step against plain SGD and stock Opacus: same rows, same model, one thread.

    Opacus clips per example, fedcall per patient, which is the stronger guarantee. Rows are random numbers.

    Example: fedcall benchmark step --json
    """
    from fedcall.benchmarks.step import as_text, benchmark_step

    result = benchmark_step(repeats)
    say_block(result.model_dump_json(indent=2) if as_json else as_text(result))


@benchmark.command()
def pileup(
    alignments: Path = typer.Option(..., "--alignments", help="BAM of one patient, sorted, with its .bai."),
    reference: Path = typer.Option(..., "--reference", help="Indexed FASTA, plain or bgzipped."),
    regions: Path | None = typer.Option(None, "--regions", help="BED; else all of the file."),
    repeats: int = typer.Option(5, "--repeats", min=1, help="Timed turns of each contender."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON instead of a table."),
) -> None:
    """Time the extraction of examples against samtools mpileup -B -Q0 on the same reads.

    Ours counts, finds candidates, computes likelihoods, encodes, and writes the examples to disk.

    Example: fedcall benchmark pileup --alignments p1.bam --reference ref.fa --regions part.bed
    """
    from fedcall.benchmarks.pileup import as_text, benchmark_pileup

    result = benchmark_pileup(alignments, reference, regions, repeats)
    say_block(result.model_dump_json(indent=2) if as_json else as_text(result))


@benchmark.command()
def dag(
    snakefile: Path = typer.Option(Path("Snakefile"), "--snakefile", help="The workflow: Snakefile of a checkout."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON instead of a table."),
) -> None:
    """Time how long Snakemake plans 100 rounds of 50 sites, 1,000 rounds of 3, and 30 genomes; no job is run.

    Example: fedcall benchmark dag
    """
    import json

    from fedcall.benchmarks.dag import as_text, benchmark_dag

    results = benchmark_dag(snakefile)
    say_block(json.dumps([row.model_dump() for row in results], indent=2) if as_json else as_text(results))


@benchmark.command()
def aggregate(
    sites: int = typer.Option(50, "--sites", min=1, help="Sites in the round."),
    parameters: list[int] = typer.Option(
        [0, 1_000_000], "--parameters", min=0, help="Size of the model, 0 for the shipped one; may be repeated."
    ),
    at_once: int = typer.Option(2, "--at-once", min=1, help="Sites that talk to the aggregator at the same time."),
    repeats: int = typer.Option(5, "--repeats", min=1, help="Timed turns of the averaging."),
    mode: str = typer.Option(
        "plain",
        "--mode",
        help="plain; masked: opening of a sum; sealed: an exchange with an enclave; encrypted: all four.",
    ),
    evidence: Path | None = typer.Option(
        None, "--evidence", help="With --mode sealed: folder of a real processor's evidence, to time its verification."
    ),
    policy: Path | None = typer.Option(None, "--policy", help="With --evidence: its policy (.yaml)."),
    report_data: str | None = typer.Option(None, "--report-data", help="With --evidence: what it is bound to."),
    verified_at: str | None = typer.Option(None, "--time", help="With --evidence: when to verify it. Default: now."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON instead of a table."),
) -> None:
    """Time a round of many sites through a real aggregator, and its averaging against a numpy mean.

    Sites fetch, upload and get their receipts over HTTPS on this machine; nobody trains. With --mode masked it times
    what differs: masking, the helper, and the opening of the sum, against the plain averaging of as many updates. With
    --mode sealed each site visits an enclave on a simulated machine and a plain aggregator in turn. With --mode
    encrypted it measures a round in every mode, side by side, in processor seconds: plain, sealed, masked, encrypted.

    Example: fedcall benchmark aggregate --sites 50 --json
    """
    if mode not in ("plain", "masked", "encrypted", "sealed"):
        raise FedcallError(f"--mode {mode}: one of plain, masked, encrypted, sealed expected")
    if (evidence is None) != (policy is None):
        raise FedcallError("--evidence and --policy belong together; give both or neither")
    if mode == "sealed":
        from fedcall.benchmarks import sealed_exchange
        from fedcall.cli.attestation import parse_time

        real = None
        if evidence is not None and policy is not None:
            time = parse_time(verified_at)
            real = sealed_exchange.RealEvidence(folder=evidence, policy=policy, report_data=report_data, time=time)
        made = [sealed_exchange.benchmark_sealed_exchange(sites, size or None, repeats, real) for size in parameters]
        _tell_all(made, sealed_exchange.as_text, as_json)
    elif mode == "encrypted":
        from fedcall.benchmarks import encrypted_sum

        found = [encrypted_sum.benchmark_encrypted_sum(sites, size or None, repeats) for size in parameters]
        _tell_all(found, encrypted_sum.as_text, as_json)
    elif mode == "masked":
        from fedcall.benchmarks import masked_sum

        sums = [masked_sum.benchmark_masked_sum(sites, size or None, repeats) for size in parameters]
        _tell_all(sums, masked_sum.as_text, as_json)
    else:
        from fedcall.benchmarks.aggregate import as_text, benchmark_aggregate

        results = [benchmark_aggregate(sites, size or None, at_once, repeats) for size in parameters]
        _tell_all(results, as_text, as_json)


def _tell_all(results: "Sequence[Result]", as_text: "Callable[[Result], str]", as_json: bool) -> None:
    """Print what was measured for each size of a model."""
    import json

    text = "\n".join(map(as_text, results))
    say_block(json.dumps([result.model_dump() for result in results], indent=2) if as_json else text)


@benchmark.command()
def ledger(
    people: int = typer.Option(10_000, "--people", min=20, help="People in the ledger, and in the round."),
    charges: int = typer.Option(1_000, "--charges", min=20, help="Charges there before, of 20 studies."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON instead of a table."),
) -> None:
    """Time one charge in a large ledger, individual filter included, against composing each person from scratch.

    Example: fedcall benchmark ledger
    """
    from fedcall.benchmarks.ledger import as_text, benchmark_ledger

    result = benchmark_ledger(people, charges)
    say_block(result.model_dump_json(indent=2) if as_json else as_text(result))


@benchmark.command()
def call(
    alignments: Path = typer.Option(..., "--alignments", help="BAM or CRAM of one patient, sorted and indexed."),
    reference: Path = typer.Option(..., "--reference", help="Indexed FASTA, plain or bgzipped."),
    regions: Path | None = typer.Option(None, "--regions", help="BED; else all of the file."),
    model: Path | None = typer.Option(None, "--model", help="Model weights; else an untrained model of the same size."),
    repeats: int = typer.Option(3, "--repeats", min=1, help="Timed turns of each contender."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON instead of a table."),
) -> None:
    """Time fedcall call against bcftools mpileup and call on the same reads, with and without process start.

    Example: fedcall benchmark call --alignments p1.bam --reference ref.fa --regions part.bed
    """
    from fedcall.benchmarks.call import as_text, benchmark_call

    result = benchmark_call(alignments, reference, regions, model, repeats)
    say_block(result.model_dump_json(indent=2) if as_json else as_text(result))


@benchmark.command()
def panel(
    haplotypes: Path = typer.Option(..., "--haplotypes", help="VCF of phased genotypes of many people, on one contig."),
    reference: Path = typer.Option(..., "--reference", help="Indexed FASTA of that contig."),
    model: Path | None = typer.Option(None, "--model", help="Model weights; else the likelihood calls."),
    depth: list[float] = typer.Option([2, 4, 8, 30], "--depth", min=0.5, help="Mean depth, reads; may be repeated."),
    patients: int = typer.Option(25, "--patients", min=1, help="People sequenced and called."),
    panel_people: int = typer.Option(150, "--panel-people", min=1, help="Other people whose frequencies are known."),
    seed: int = typer.Option(1, "--seed", min=0, help="Chooses people and draws reads."),
    recurrent: bool = typer.Option(
        True, "--recurrent/--no-recurrent", help="Whether everybody's reads share false sites, as those of a cohort do."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print JSON instead of a table."),
) -> None:
    """Compare calls with a panel of public allele frequencies and without, at several depths.

    Patients are simulated with the haplotypes of real people; the panel is counted over others.

    Example: fedcall benchmark panel --haplotypes haplotypes.vcf.gz --reference reference.fa.gz --depth 4
    """
    from fedcall.benchmarks.panel import as_text, benchmark_panel

    result = benchmark_panel(haplotypes, reference, model, depth, patients, panel_people, seed, recurrent)
    say_block(result.model_dump_json(indent=2) if as_json else as_text(result))


@benchmark.command()
def relatives(
    haplotypes: Path = typer.Option(..., "--haplotypes", help="VCF of phased genotypes of many people, on one contig."),
    reference: Path = typer.Option(..., "--reference", help="Indexed FASTA of that contig."),
    regions: list[int] = typer.Option([1, 4, 8, 20], "--regions", min=1, help="Regions inherited apart."),
    kilobases: list[int] = typer.Option([150, 500], "--kilobases", min=1, help="Length of each region."),
    depth: list[float] = typer.Option([4, 10, 30], "--depth", min=0.5, help="Mean depth, reads."),
    families: int = typer.Option(40, "--families", min=2, help="Families of two parents and two children."),
    seed: int = typer.Option(1, "--seed", min=0, help="Makes families and draws reads."),
) -> None:
    """Show how many bases and reads it takes to know one person, parents and siblings from unrelated people.

    Families are made of real haplotypes. Columns: share of the pairs found for one person sequenced twice, parent and
    child, and siblings; share of unrelated pairs found by mistake; share of these of whom nothing is said.

    Example: fedcall benchmark relatives --haplotypes haplotypes.vcf.gz --reference reference.fa.gz --regions 8
    """
    from fedcall.benchmarks.relatives import measure, table
    from fedcall.simulation.people import read_people

    people = read_people(haplotypes, reference)
    rows = [
        measure(people, number, length, reads, families, seed)
        for number in regions
        for length in kilobases
        for reads in depth
    ]
    say_block(table(rows))


@benchmark.command()
def startup(
    repeats: int = typer.Option(3, "--repeats", min=1, help="Counted starts of each command."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON instead of a table."),
) -> None:
    """Measure the start of each command of the data path against `python -c "import numpy"`, in processor seconds.

    Example: fedcall benchmark startup --repeats 5
    """
    from fedcall.benchmarks.startup import as_text, benchmark_startup

    result = benchmark_startup(repeats)
    say_block("[" + ",\n".join(one.model_dump_json() for one in result) + "]" if as_json else as_text(result))


@benchmark.command()
def genome(
    alignments: Path | None = typer.Option(
        None, "--alignments", help="BAM or CRAM of one patient; else NA12878 in ../shared/data, or simulated reads."
    ),
    reference: Path | None = typer.Option(None, "--reference", help="Indexed FASTA of the alignments."),
    regions: Path | None = typer.Option(None, "--regions", help="BED, whose longest region is measured; else all."),
    megabases: float = typer.Option(2.0, "--megabases", min=0.01, help="Bases to measure, in millions, at least."),
    repeats: int = typer.Option(3, "--repeats", min=1, help="Measured turns of each program."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON instead of a table."),
) -> None:
    """Extrapolate to the core-minutes of one 30x genome, beside bcftools and freebayes in the same run.

    Processor seconds on one thread, the start of the programs apart. It says whether the reads were real.

    Example: fedcall benchmark genome --alignments p1.bam --reference ref.fa --regions part.bed
    """
    from fedcall.benchmarks.genome import as_text, benchmark_genome
    from fedcall.errors import FedcallError

    if (alignments is None) != (reference is None):
        raise FedcallError("--alignments and --reference are given together, or neither")
    result = benchmark_genome(alignments, reference, regions, megabases, repeats)
    say_block(result.model_dump_json(indent=2) if as_json else as_text(result))
