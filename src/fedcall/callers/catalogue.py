"""The callers that the workflow can run beside the study's models, and what each needs."""

from dataclasses import dataclass
from typing import Literal

CallerName = Literal["bcftools", "freebayes", "gatk", "deepvariant"]
Platform = Literal["WGS", "WES"]
"""What short reads are of: a whole genome, or an exome; by these names DeepVariant knows its models, too."""
Deployment = Literal["conda", "apptainer"]

DEEPVARIANT_IMAGE = "docker://google/deepvariant:1.10.0"


@dataclass(frozen=True)
class OutsideCaller:
    """One caller.

    Attributes
    ----------
    command : what must be on PATH, unless Snakemake supplies it; None: fedcall carries it
    supplied_by : the way of `snakemake --sdm` that brings it
    needs_read_groups : whether it refuses reads without a read group that names the sample
    least_quality : calls with a lower QUAL are marked as failed, as its authors advise; 0: as called
    """

    name: CallerName
    command: str | None
    supplied_by: Deployment | None
    needs_read_groups: bool = False
    least_quality: float = 0.0


CATALOGUE: dict[CallerName, OutsideCaller] = {
    caller.name: caller
    for caller in (
        OutsideCaller("bcftools", None, None),
        # Its README filters by QUAL > 20; without, every base that a read disagrees with may be a record.
        OutsideCaller("freebayes", "freebayes", "conda", least_quality=20.0),
        OutsideCaller("gatk", "gatk", "conda", needs_read_groups=True),
        OutsideCaller("deepvariant", "run_deepvariant", "apptainer"),
    )
}
