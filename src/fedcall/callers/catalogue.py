"""The callers that the workflow can run beside the study's models, and what each needs."""

from dataclasses import dataclass
from typing import Literal

CallerName = Literal["bcftools", "freebayes", "gatk", "deepvariant"]
Platform = Literal["WGS", "WES", "PACBIO", "ONT"]
Deployment = Literal["conda", "apptainer"]

DEEPVARIANT_IMAGE = "docker://google/deepvariant:1.10.0"


@dataclass(frozen=True)
class OutsideCaller:
    """One caller.

    Attributes
    ----------
    command : what must be on PATH, unless Snakemake supplies it; None: fedcall carries it
    supplied_by : the way of `snakemake --sdm` that brings it
    platforms : of whose reads it calls variants, by its authors
    needs_read_groups : whether it refuses reads without a read group that names the sample
    least_quality : calls with a lower QUAL are marked as failed, as its authors advise; 0: as called
    """

    name: CallerName
    command: str | None
    supplied_by: Deployment | None
    platforms: tuple[Platform, ...]
    needs_read_groups: bool = False
    least_quality: float = 0.0


SHORT_READS: tuple[Platform, ...] = ("WGS", "WES")
ALL_READS: tuple[Platform, ...] = ("WGS", "WES", "PACBIO", "ONT")

CATALOGUE: dict[CallerName, OutsideCaller] = {
    caller.name: caller
    for caller in (
        OutsideCaller("bcftools", None, None, ALL_READS),
        # Its README filters by QUAL > 20; without, every base that a read disagrees with may be a record.
        OutsideCaller("freebayes", "freebayes", "conda", SHORT_READS, least_quality=20.0),
        OutsideCaller("gatk", "gatk", "conda", SHORT_READS, needs_read_groups=True),
        OutsideCaller("deepvariant", "run_deepvariant", "apptainer", ALL_READS),
    )
}

# Names of DeepVariant's models; that for Oxford Nanopore reads is of R10.4 pores.
_MODELS: dict[Platform, str] = {"WGS": "WGS", "WES": "WES", "PACBIO": "PACBIO", "ONT": "ONT_R104"}


def deepvariant_model(platform: Platform) -> str:
    """Return the value of `run_deepvariant --model_type` for reads of a platform.

    Examples
    --------
    >>> deepvariant_model("ONT")
    'ONT_R104'
    """
    return _MODELS[platform]
