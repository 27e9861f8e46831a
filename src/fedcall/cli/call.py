"""`fedcall call` and `fedcall call-classical`: from alignments to a VCF."""

from pathlib import Path

import typer

from fedcall.cli.printing import say


def register(app: typer.Typer) -> None:
    """Add the commands `call` and `call-classical`."""
    app.command("call")(call)
    app.command("call-classical")(call_classical)


def call(
    model: Path = typer.Option(..., "--model", help="Model weights (safetensors), for example the study's last."),
    alignments: Path = typer.Option(..., "--alignments", help="BAM or CRAM of one patient, sorted and indexed."),
    reference: Path = typer.Option(..., "--reference", help="Reference FASTA, indexed."),
    regions: Path | None = typer.Option(
        None, "--regions", help="BED of the regions to call in; else the whole genome."
    ),
    sample: str | None = typer.Option(
        None, "--sample", help="Name of the genotype column; else the alignments' own sample, else the file's stem."
    ),
    output: Path = typer.Option(..., "--output", help="Calls to write (.vcf.gz); the index is written beside them."),
    threads: int = typer.Option(1, "--threads", min=1, help="Processes that read alignments side by side."),
    ploidy_bed: Path | None = typer.Option(
        None, "--ploidy-bed", help="BED of what the patient has one copy of (a man's X and Y): genotypes 0 or 1 there."
    ),
    shard: str | None = typer.Option(None, "--shard", help="K/N: the K-th of N equal parts of the regions only."),
    shard_size: int | None = typer.Option(
        None,
        "--shard-size",
        min=1,
        help="Work through the regions in parts of at most so many bases, one after another: less memory, same result.",
    ),
    panel: Path | None = typer.Option(
        None,
        "--panel",
        help="VCF of public allele frequencies (AC and AN, genotypes, or AF), bgzipped and indexed: what is expected of"
        " a candidate follows from it. Never frequencies of private patients.",
    ),
    recalibration: Path | None = typer.Option(
        None,
        "--recalibration",
        help="Table that 'fedcall recalibrate' made from these alignments; without it qualities are those reported.",
    ),
) -> None:
    """Call the variants of one patient with a trained model.

    Writes a bgzipped VCF 4.3 with a tabix index: GT, GQ, PL, DP, AD and QUAL, and the digests of model, study, panel
    and recalibration.

    Example: fedcall call --model final.safetensors --alignments p1.bam --reference genome.fa --panel 1000genomes.vcf.gz
    --output p1.vcf.gz
    """
    from fedcall.files import sha256_file
    from fedcall.genomics.calling.calls import Part, Provenance, rows_within, sample_name, write_calls
    from fedcall.genomics.calling.panel import look_up, open_panel, with_panel
    from fedcall.genomics.regions import read_regions
    from fedcall.model.inference import checked_tensors, posteriors
    from fedcall.weights import read_weights

    weights = read_weights(model)
    tensors = checked_tensors(weights, str(model))
    haploid = read_regions(ploidy_bed, reference) if ploidy_bed is not None else []
    name = sample or sample_name(alignments, reference)
    frequencies = open_panel(panel, reference) if panel is not None else None

    # Seconds to import: not before the cheap mistakes are found.
    from fedcall.genomics.pileup.extraction import CALL_REACH, extract_examples, spans_of
    from fedcall.genomics.shards import Shard, cut_regions, gather_calls, parse_shard, work_in_turn

    spans = spans_of(alignments, reference, regions)
    digest = frequencies.digest if frequencies is not None else None
    fitted = sha256_file(recalibration) if recalibration is not None else None
    provenance = Provenance(weights.digest, weights.metadata.get("study"), digest, fitted)

    def call_shard(path: Path, part: Shard) -> int:
        reach = CALL_REACH if part.total > 1 else 0
        examples = extract_examples(
            alignments,
            reference,
            regions,
            threads=threads,
            shard=part,
            reach=reach,
            recalibration=recalibration,
        )
        own = [span for span, _ in cut_regions(spans, part)] if reach else None
        found = posteriors(tensors, examples, threads)
        if frequencies is not None:
            found = with_panel(found, examples, look_up(frequencies, examples), rows_within(examples, haploid))
        return write_calls(path, examples, found, reference, name, provenance, haploid, Part(part, own))

    records = work_in_turn(output, spans, parse_shard(shard), shard_size, call_shard, gather_calls)
    say(f"{output}: {records} variants of {name}")


def call_classical(
    alignments: Path = typer.Option(..., "--alignments", help="BAM or CRAM of one patient, sorted and indexed."),
    reference: Path = typer.Option(..., "--reference", help="Reference FASTA, indexed."),
    regions: Path | None = typer.Option(
        None, "--regions", help="BED of the regions to call in; else the whole genome."
    ),
    sample: str | None = typer.Option(
        None, "--sample", help="Name of the genotype column; else the alignments' own sample."
    ),
    output: Path = typer.Option(..., "--output", help="Calls to write (.vcf.gz); the index is written beside them."),
) -> None:
    """Call the variants of one patient with bcftools (mpileup and call), as a baseline.

    Example: fedcall call-classical --alignments p1.bam --reference genome.fa --output p1.bcftools.vcf.gz
    """
    from fedcall.genomics.calling.classical import call_classical as call

    call(alignments, reference, output, regions=regions, sample=sample)
    say(f"{output}: written")
