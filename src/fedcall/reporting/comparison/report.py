"""`fedcall compare`: several callers' files of one patient against one truth, with what they disagree on."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from fedcall.callers.agreement import Case, agreement_of
from fedcall.callers.preparation import write_regions
from fedcall.errors import FedcallError
from fedcall.genomics.concordance.comparison import Concordance, compare
from fedcall.genomics.regions import read_regions
from fedcall.genomics.truth.confident_regions import write_confident_regions
from fedcall.reporting.base import figures
from fedcall.reporting.comparison.documents import ComparisonReport, LeftOut, NamedAccuracy, NamedDifference
from fedcall.reporting.evaluation.callers import TYPES, Side, paired_differences
from fedcall.reporting.evaluation.documents import Difference, Type
from fedcall.reporting.evaluation.pileup_drawing import draw_pileup
from fedcall.reporting.evaluation.report import accuracy, as_estimate
from fedcall.reporting.privacy.documents import Statement
from fedcall.shown import shown

_GVCF = (".vcf", ".vcf.gz", ".gvcf", ".gvcf.gz", ".bcf")


def compare_files(
    truth: Path,
    calls: Mapping[str, Path],
    reference: Path,
    regions: Path | None = None,
    sample: str | None = None,
    alignments: Path | None = None,
) -> ComparisonReport:
    """Compare VCFs of one patient with a truth, and each with the first.

    Parameters
    ----------
    truth : VCF with genotypes
    calls : VCFs by the callers' names; the first is what the others are compared with
    reference : indexed FASTA
    regions : BED, or a gVCF, then where it is sure of its genotypes; the whole reference if None
    sample : the patient's column in the truth, if it has several
    alignments : the patient's BAM or CRAM, from which disagreements are drawn

    Raises
    ------
    FedcallError
        If fewer than one file is given, or a file is missing, damaged or of another reference.
    """
    if not calls:
        raise FedcallError("no calls were given; name at least one file with --calls")
    with TemporaryDirectory(prefix="fedcall-") as folder:
        bed = _regions(regions, reference, sample, Path(folder) / "regions.bed")
        found = {name: compare(truth, path, bed, reference, sample) for name, path in calls.items()}
        together = agreement_of(Case(truth, reference, read_regions(bed, reference), sample), calls, alignments)
    first, *others = found
    ours = Side.of([found[first]])
    differences = tuple(
        NamedDifference(caller=name, **vars(row))
        for name in others
        for row in paired_differences(ours, Side.of([found[name]]))
    )
    return ComparisonReport(
        sentence=_sentence(first, found, differences),
        truth=Path(truth).name,
        regions_bases=found[first].regions_bases,
        label_types=found[first].label_types,
        callers=together.callers,
        figures=tuple(row for name, one in found.items() for row in _accuracies(name, one)),
        differences=differences,
        patterns=together.patterns,
        disagreements_in_all=together.disagreements_in_all,
        disagreements=together.disagreements,
        left_out=tuple(
            LeftOut(caller=name, reason=reason, count=count)
            for name, one in found.items()
            for reason, count in one.left_out.items()
        ),
        notes=_notes(),
    )


def comparison_figures(report: ComparisonReport) -> dict[str, str]:
    """Draw accuracy by caller, and the reads of disagreements."""
    titles: dict[Type, str] = {"snps": "SNPs", "indels": "Indels"}
    names = [one.caller for one in report.callers]
    series = {
        title: [as_estimate(row.f1) for row in report.figures if row.type == kind]
        for kind, title in titles.items()
        if kind == "snps" or report.label_types == "all"
    }
    return {
        "callers": figures.dots("callers", names, series, "F1 of genotypes, with 95 % interval"),
        **{
            f"disagreement-{number}": draw_pileup(one.drawn)
            for number, one in enumerate(report.disagreements)
            if one.drawn is not None
        },
    }


def as_text(report: ComparisonReport) -> str:
    """Return the comparison as tables for a terminal."""
    lines = [
        f"{'caller':<14}{'type':<8}{'truth':>7}{'calls':>7}{'precision':>11}{'recall':>9}  {'F1, 95 % interval':<24}"
    ]
    for row in report.figures:
        interval = "" if row.f1.low is None or row.f1.high is None else f" ({row.f1.low:.4f} to {row.f1.high:.4f})"
        lines.append(
            f"{shown(row.caller, 13):<14}{row.type:<8}{row.truth:>7}{row.calls:>7}{_shown(row.precision.value):>11}"
            f"{_shown(row.recall.value):>9}  {_shown(row.f1.value)}{interval}"
        )
    if report.differences:
        lines += ["", f"F1 of {shown(report.callers[0].caller)} less that of the other, in pairs, 95 % interval"]
        lines += [f"{shown(row.caller, 13):<14}{row.type:<8}{_signed(row.f1)}" for row in report.differences]
    names = [shown(one.caller) for one in report.callers]
    lines += ["", "alleles by who has them (true variants: with the right genotype)"]
    for pattern in report.patterns:
        had_by = set(map(shown, pattern.callers))
        marks = " ".join(name if name in had_by else "-" * len(name) for name in names)
        lines.append(f"{pattern.kind:<14}{pattern.type:<8}{pattern.count:>7}  {marks}")
    return "\n".join([*lines, "", shown(report.sentence, 1000)])


def _regions(regions: Path | None, reference: Path, sample: str | None, bed: Path) -> Path:
    if regions is None:
        write_regions(reference, bed)
        return bed
    if str(regions).endswith(_GVCF):
        write_confident_regions(regions, reference, bed, sample=sample)
        return bed
    return regions


def _types(one: Concordance) -> tuple[Type, ...]:
    return tuple(kind for kind in TYPES if kind != "indels" or one.label_types == "all")


def _accuracies(name: str, one: Concordance) -> list[NamedAccuracy]:
    found = {"snps": one.snps, "indels": one.indels, "all": one.all}
    rows = []
    for kind in _types(one):
        figures_of = found[kind]
        assert figures_of is not None
        rows.append(NamedAccuracy(caller=name, **dict(accuracy(kind, figures_of, [one]))))
    return rows


def _sentence(first: str, found: Mapping[str, Concordance], differences: Sequence[NamedDifference]) -> str:
    f1 = found[first].all.f1
    text = f"F1 of {first} over all variants is {_shown(f1)}"
    for row in differences:
        if row.type != "all" or row.f1.value is None:
            continue
        verdict = "no difference seen" if not row.f1.is_certain else "better" if row.f1.value > 0 else "worse"
        text += f"; against {row.caller} {_signed(row.f1)}: {verdict}"
    return f"{text}."


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _signed(difference: Difference) -> str:
    if difference.value is None:
        return "unknown"
    text = f"{difference.value:+.4f}"
    if difference.low is not None and difference.high is not None:
        text += f" ({difference.low:+.4f} to {difference.high:+.4f})"
    return text


def _notes() -> tuple[Statement, ...]:
    return (
        Statement(
            topic="What counts",
            statement="Genotypes: a call counts as right if the truth has the same allele in the same number of copies,"
            " or if both spell the same local haplotypes. Only variants inside the regions count. Records that failed a"
            " filter are no calls.",
        ),
        Statement(
            topic="One form for all",
            statement="Every file is split by allele and left-aligned in the same way; of a record that stands there"
            " twice one is kept, of two alleles at one place both.",
        ),
        Statement(
            topic="Intervals",
            statement="95 % by a bootstrap over 20 blocks of the regions, of differences in pairs. Of one patient, they"
            " say nothing about other people.",
        ),
        Statement(
            topic="Not private",
            statement="The figures and the reads drawn here are one patient's: the page stays where the patient's data"
            " is.",
        ),
    )
