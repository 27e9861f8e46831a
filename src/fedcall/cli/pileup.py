"""`fedcall pileup`, and `fedcall gather` for what shards wrote."""

from pathlib import Path

import typer

from fedcall.cli.printing import say


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command("pileup")(pileup)
    app.command("gather")(gather)


def pileup(
    alignments: Path = typer.Option(..., "--alignments", help="BAM or CRAM of one patient, sorted and indexed."),
    reference: Path = typer.Option(..., "--reference", help="Indexed FASTA, plain or bgzipped."),
    regions: Path | None = typer.Option(None, "--regions", help="BED; candidates in these regions only."),
    leave_out: list[str] = typer.Option(
        [], "--leave-out", help="Region nobody trains on (CONTIG or CONTIG:FIRST-LAST), and 100 bases around it."
    ),
    truth: Path | None = typer.Option(None, "--truth", help="VCF with true genotypes; labels the candidates."),
    sample: str | None = typer.Option(None, "--sample", help="Column of the patient in --truth."),
    output: Path = typer.Option(..., "--output", help="Examples file (safetensors) to write."),
    threads: int = typer.Option(1, "--threads", min=1, help="Stretches worked on side by side."),
    keep: int = typer.Option(
        100, "--keep-percent", min=1, max=100, help="Thin the reads to this share, to see the patient at a lower depth."
    ),
    shard: str | None = typer.Option(None, "--shard", help="K/N: the K-th of N equal parts of the regions only."),
    shard_size: int | None = typer.Option(
        None,
        "--shard-size",
        min=1,
        help="Work through the regions in parts of at most so many bases, one after another: less memory, same result.",
    ),
    recalibration: Path | None = typer.Option(
        None,
        "--recalibration",
        help="Table that 'fedcall recalibrate' made from these alignments; without it qualities are those reported.",
    ),
) -> None:
    """Find the candidate variants of one patient and encode them as examples.

    A genome may be worked on in shards, on as many machines; `fedcall gather` joins what they wrote.

    Example: fedcall pileup --alignments p1.bam --reference ref.fa --truth p1.vcf.gz --output p1.safetensors
    """
    import contextlib
    import tempfile

    from fedcall.genomics.examples import open_examples, write_examples
    from fedcall.genomics.pileup.extraction import extract_examples, spans_of
    from fedcall.genomics.shards import Shard, gather_examples, parse_shard, work_in_turn

    def extract(path: Path, part: Shard) -> int:
        found = extract_examples(
            alignments,
            reference,
            regions,
            truth,
            sample,
            threads=threads,
            keep=keep / 100,
            shard=part,
            recalibration=recalibration,
        )
        write_examples(path, found)
        return len(found)

    part = parse_shard(shard)
    with contextlib.ExitStack() as stack:
        if leave_out:
            from fedcall.genomics.unseen import training_regions, write_bed

            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fedcall-pileup-")))
            left = training_regions(regions, reference, leave_out)
            regions = folder / "training.bed"
            write_bed(regions, left)
        spans = spans_of(alignments, reference, regions)
        count = work_in_turn(output, spans, part, shard_size, extract, gather_examples)
    labelled = int((open_examples(output).labels >= 0).sum())
    say(f"{output}: {count} candidates, {labelled} labelled")


def gather(
    parts: list[Path] = typer.Argument(..., help="What the shards 1/N to N/N of one patient wrote, in this order."),
    output: Path = typer.Option(..., "--output", help="Examples (.safetensors) or calls (.vcf.gz) to write."),
) -> None:
    """Join the shards of one patient: examples of `fedcall pileup`, or calls of `fedcall call`.

    The result is, byte for byte, what one job without shards would have written.

    Example: fedcall gather --output p1.safetensors p1.1-of-2.safetensors p1.2-of-2.safetensors
    """
    from fedcall.genomics.shards import gather_calls, gather_examples

    if output.name.endswith(".vcf.gz"):
        say(f"{output}: {gather_calls(parts, output)} variants from {len(parts)} shards")
    else:
        say(f"{output}: {gather_examples(parts, output)} candidates from {len(parts)} shards")
