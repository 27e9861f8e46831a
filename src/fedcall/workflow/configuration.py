"""This run's choices: `config.yaml` and the sheet of patients."""

import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from fedcall.callers.catalogue import DEEPVARIANT_IMAGE, CallerName, Platform
from fedcall.documents import Document, describe
from fedcall.errors import FedcallError
from fedcall.genomics.reads.long_reads import long_platform_line
from fedcall.study.terms import Name
from fedcall.workflow.table import read_table
from fedcall.yaml_files import read_yaml

Split = Literal["train", "holdout", "public"]
RELATIVE_TO = "relative paths in a configuration start at the working directory"
COLUMNS = ("patient", "site", "alignments", "truth", "regions", "split")


class Patient(Document):
    """One row of `samples.tsv`. Paths are absolute after reading; an empty cell is None."""

    patient: Name
    person: Annotated[str, Field(min_length=1, max_length=200)] | None = Field(
        None,
        description="Stable name of the person within the hospital, such as the number in its records: what the ledger"
        " charges, whatever the row is called; the patient's name if empty.",
    )
    site: Name
    alignments: Path | None = None
    reads1: Path | None = Field(None, description="FASTQ of first mates (or single reads), in place of alignments.")
    reads2: Path | None = Field(None, description="FASTQ of second mates.")
    truth: Path | None = None
    regions: Path | None = Field(
        None, description="BED of the confident regions, or a gVCF: then where its genotypes have GQ 20 or more."
    )
    split: Split
    sample: str | None = Field(
        None, description="Name of the patient's column in the truth VCF; the patient's name if empty."
    )
    reference: Path | None = Field(None, description="Reference of this row's alignments; config's reference if empty.")
    haploid: Path | None = Field(
        None, description="BED of what the patient has one copy of, such as a man's X and Y outside the shared parts."
    )
    duplicates: Literal["mark", "keep", "clear"] = Field(
        "mark",
        description="'keep' leaves marks of duplicates as they are in the alignments, 'clear' takes them away: for"
        " amplicons, whose reads begin and end alike by design.",
    )
    platform: Platform = Field(
        "WGS",
        description="What the short reads are of: a whole genome (WGS) or exome (WES). It chooses DeepVariant's model.",
    )
    private: Literal["yes", "no"] = Field(
        "yes",
        description="'no' for simulated people and those whose data is public with their consent: only with them may"
        " experiments be made, which charge no ledger, and only they can be 'public' or be rehearsed with.",
    )

    distinct_from: str | None = Field(
        None,
        description="Persons whom this one resembles in every genotype and is not, such as an identical twin, separated"
        " by commas; the statement is recorded.",
    )

    @field_validator("platform", mode="before")
    @classmethod
    def _short_reads(cls, platform: object) -> object:
        refused = long_platform_line(str(platform))
        if refused is not None:
            raise ValueError(refused)
        return platform

    @model_validator(mode="after")
    def _has_reads(self) -> Self:
        if (self.alignments is None) == (self.reads1 is None):
            raise ValueError("exactly one of 'alignments' and 'reads1' is needed")
        if self.reads2 is not None and self.reads1 is None:
            raise ValueError("'reads2' is given without 'reads1'")
        if self.split == "public" and self.private == "yes":
            raise ValueError(
                "split 'public' is for people whose data is public: write 'no' in the column 'private' if this person's"
                " is, or choose 'train' or 'holdout'"
            )
        return self

    @property
    def charged(self) -> str:
        """The name under which the ledger knows the person."""
        return self.person or self.patient

    @property
    def has_gvcf_regions(self) -> bool:
        """Whether the confident regions are those of a gVCF, by its name, and no BED."""
        endings = (f".{kind}{packed}" for kind in ("vcf", "gvcf") for packed in ("", ".gz", ".bgz"))
        return str(self.regions).lower().endswith((*endings, ".bcf"))


class SimulatedCohort(Document):
    """A cohort to be made by `fedcall simulate` instead of read from a sheet (for the demo and for tests)."""

    seed: Annotated[int, Field(ge=0)] = 1
    sites: dict[Name, Annotated[int, Field(ge=1)]] = Field(description="Training patients per site.")
    holdout: Annotated[int, Field(ge=0)] = Field(3, description="Held-out patients per site.")
    public: Annotated[int, Field(ge=0)] = Field(
        6, description="Public patients, sequenced without the hospitals' artefact."
    )
    public_holdout: Annotated[int, Field(ge=0)] = Field(
        0,
        description="Public people held out to judge the model on, sequenced by the hospitals (reference material):"
        " with their artefact.",
    )
    region_length: Annotated[int, Field(ge=1_000, le=10_000_000)] = Field(
        20_000, description="Length of the sequenced region, bases."
    )
    depth: Annotated[float, Field(gt=0, le=500)] = Field(20.0, description="Mean depth, reads.")

    def patients(self, folder: Path) -> list["Patient"]:
        """Return the rows of the sheet that `fedcall simulate` writes into `folder`."""
        return [
            Patient(
                patient=patient,
                site=site,
                alignments=folder / f"{patient}.bam",
                truth=folder / f"{patient}.truth.vcf.gz",
                regions=folder / "regions.bed",
                split=split,
                sample=None,
                reference=None,
                private="no",
            )
            for patient, site, split in self.rows
        ]

    @property
    def rows(self) -> list[tuple[str, str, Split]]:
        """Return (patient, site, split) of every simulated patient, in the order of the sheet."""
        rows: list[tuple[str, str, Split]] = []
        for site, patients in self.sites.items():
            rows += [(f"{site}-{index:03d}", site, "train") for index in range(1, patients + 1)]
            rows += [(f"{site}-h{index:02d}", site, "holdout") for index in range(1, self.holdout + 1)]
        rows += [(f"public-{index:03d}", "public", "public") for index in range(1, self.public + 1)]
        rows += [(f"public-h{index:02d}", "public", "holdout") for index in range(1, self.public_holdout + 1)]
        return rows


class SweepChoices(Document):
    """What `snakemake privacy_utility_sweep` trains: accuracy against epsilon, on simulated or public people."""

    studies: tuple[Path, ...] = Field(
        (), description="Further study terms (YAML) to draw on the same axes: another unit, adaptive clipping."
    )
    epsilons: tuple[Annotated[float, Field(gt=0, allow_inf_nan=False)], ...] = Field(
        (1.0, 3.0, 8.0), description="Totals to train at, besides without noise and with the study's own noise."
    )
    seeds: Annotated[int, Field(ge=1)] = Field(3, description="Trainings per point, with unrelated noise.")


class SyftChoices(Document):
    """A hospital that takes part with PySyft: it answers the jobs that the coordinator leaves in its folder."""

    folder: Path = Field(description="The hospital's PySyft folder; in a rehearsal everybody's.")
    datasite: str = Field(
        "{site}@fedcall.example", description="Email of the hospital's datasite; '{site}' becomes the site's name."
    )


class LocalChoices(Document):
    """What a hospital fits on its own patients, and keeps."""

    base_qualities: Literal["reported", "recalibrated"] = Field(
        "reported",
        description="'recalibrated' lowers the base qualities of a patient's reads where those reads themselves show"
        " far more errors than the qualities say, or damage (oxidation, formalin); elsewhere they stay as reported.",
    )
    chemistry: Literal["joint", "fitted"] = Field(
        "joint",
        description="'fitted' fits the constants of the final model's likelihood to the labelled training patients of"
        " the hospital, without noise, and calls its held-out patients with them, too; they differ from the joint ones"
        " only if that helps patients whom a fit had not seen.",
    )


class Config(Document):
    """`config.yaml`. Relative paths are relative to the working directory of Snakemake."""

    study: Path = Field(description="Terms of the study (YAML) in a rehearsal; the signed study (JSON) at a site.")
    samples: Path | None = Field(None, description="Sheet of patients; left out when the cohort is simulated.")
    public_thinning: tuple[Annotated[int, Field(ge=1, le=99)], ...] = Field(
        (), description="Train the first model also on public reads thinned to these percentages, for lower depths."
    )
    public_samples: Path | None = Field(
        None, description="Further sheet with public people: split 'public' to train on, 'holdout' to be scored on."
    )
    cohort: SimulatedCohort | None = Field(None, description="Simulate the patients instead of reading a sheet.")
    reference: Path | None = Field(None, description="Reference FASTA, indexed; left out when the cohort is simulated.")
    panel: Path | None = Field(
        None,
        description="VCF of public allele frequencies, bgzipped and indexed, from which calling takes what to expect of"
        " a candidate. Never frequencies of private patients.",
    )
    callers: tuple[CallerName, ...] = Field(
        ("bcftools",),
        description="Other callers that call the held-out patients, too, and stand beside the study's models in the"
        " evaluation.",
    )
    deepvariant_image: Annotated[str, Field(min_length=1, pattern=r"^\S+$")] = Field(
        DEEPVARIANT_IMAGE,
        description="Container with run_deepvariant, for `snakemake --sdm apptainer`: an address, best with a digest"
        " (docker://google/deepvariant@sha256:...), or an image file.",
    )
    local: LocalChoices = Field(
        LocalChoices(),
        description="Fitted on this hospital's own patients; it never leaves, is no release and costs no epsilon.",
    )
    sweep: SweepChoices = Field(SweepChoices(), description="Of the target privacy_utility_sweep.")
    shard_size: Annotated[int, Field(ge=10_000)] = Field(
        5_000_000,
        description="Bases a job of extract_pileup or call_variants works on at a time; larger regions are cut.",
    )
    shard_jobs: Annotated[int, Field(ge=2)] = Field(
        100, description="Jobs on which a patient's shards are spread at most; a job works through its shards in turn."
    )
    site: Name | None = Field(
        None, description="This hospital's name; left out, all sites are rehearsed on this machine."
    )
    aggregator: str | None = Field(
        None,
        description="HOST:PORT of the consortium's aggregator; needed with 'site', but for 'handover', 'drop' and"
        " 'syft'.",
    )
    ca: Path | None = Field(None, description="Certificate of the authority that signed the aggregator's certificate.")
    handover: Path | None = Field(
        None,
        description="Folder that this site's own Flower SuperNode carries to the aggregator, in place of 'aggregator'"
        " and 'ca'.",
    )
    drop: Path | None = Field(
        None,
        description="Folder for sealed requests and answers that anything may carry, in place of 'aggregator' and"
        " 'ca'.",
    )
    syft: SyftChoices | None = Field(
        None, description="Answer the coordinator's jobs in a PySyft folder, in place of 'aggregator' and 'ca'."
    )
    approved_study: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = Field(
        None, description="Digest of the study this site agreed to; needed with 'site'."
    )
    ledger: str = Field(
        "private/{site}/ledger.sqlite",
        description="The site's ledger; '{site}' becomes its name. The hospital's own limit is beside it, in"
        " limit.yaml.",
    )
    sketches: str = Field(
        "private/{site}/sketches",
        description="Folder in which a site knows people again by their reads; it stays at the hospital. '{site}'"
        " becomes the site's name.",
    )
    charge_for_good: bool = Field(
        False,
        description="Rehearse with private people: what the rehearsal charges them in 'ledger' stays charged, ever.",
    )
    site_key: str = Field("private/{site}/keys", description="Folder of the site's keys; '{site}' becomes its name.")
    device: Literal["cpu", "cuda", "auto"] = Field(
        "cpu", description="Where train_round computes; a release is the same, bit for bit, only on the same device."
    )

    train_together: bool = Field(
        True,
        description="In a rehearsal one job a round trains all sites, as many at a time as it has threads, and one job"
        " compares all sites' people or writes their privacy reports; false: a job per site, which a cluster spreads"
        " over its nodes.",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.samples is None) == (self.cohort is None):
            raise ValueError("exactly one of 'samples' (your patients) and 'cohort' (simulated ones) is needed")
        if self.samples is not None and self.reference is None:
            raise ValueError("'reference' is needed beside 'samples'")
        if self.site is not None:
            way = () if self.handover or self.drop or self.syft else ("aggregator", "ca")
            missing = [key for key in (*way, "approved_study") if getattr(self, key) is None]
            if missing:
                raise ValueError(f"'site' is set, so {', '.join(missing)} must be, too")
        twice = next((name for name in self.callers if self.callers.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"'callers' names '{twice}' twice; each caller once")
        if self.handover is not None and (self.aggregator or self.ca):
            raise ValueError("'handover' is given, so the SuperNode knows 'aggregator' and 'ca'; leave them out")
        if self.drop is not None and (self.aggregator or self.ca or self.handover or self.syft):
            raise ValueError(
                "'drop' is given, so no connection is opened; leave out 'aggregator', 'ca', 'handover' and 'syft'"
            )
        if self.syft is not None and (self.aggregator or self.ca or self.handover):
            raise ValueError("'syft' is given, so no connection is opened; leave out 'aggregator', 'ca' and 'handover'")
        return self


def read_config(path: Path, content: Mapping[str, Any] | None = None) -> Config:
    """Read `config.yaml`, or check `content`, its values after changes from a command line.

    Errors name file, line, key, the value found and what is allowed.
    """
    return read_yaml(path, Config, content)


def read_samples(
    path: Path, upstream: bool = False, must_exist: bool = True, without: Collection[str] = ()
) -> list[Patient]:
    """Read a sheet of patients (tab-separated, one header line).

    Parameters
    ----------
    path : Path
        The sheet; files in it are relative to it.
    upstream : bool
        Alignments and reads may be missing, and are named relative to the working directory: by these names rules of
        another workflow make them.
    must_exist : bool
        Whether a file that is missing is a mistake.
    without : collection of str
        Patients or persons whose rows are passed over: they have withdrawn.

    Raises
    ------
    FedcallError
        If a column is missing or unknown, a cell is not allowed, a file is missing, or a patient has two rows;
        the message names file, line and column.
    """
    path = Path(path)
    if not path.is_file():
        raise FedcallError(f"{path}: no such sheet of patients")
    header, rows = read_table(path)
    missing = [column for column in COLUMNS if column not in header]
    if missing:
        raise FedcallError(f"{path}:1: missing column '{missing[0]}' (needed: {', '.join(COLUMNS)}; tab-separated)")
    patients: list[Patient] = []
    seen: dict[str, int] = {}
    for line, row in rows:
        if without and not {row.get("patient", "").strip(), row.get("person", "").strip()}.isdisjoint(without):
            continue
        patient = _read_row(path, line, row, upstream, must_exist)
        if patient.patient in seen:
            raise FedcallError(
                f"{path}:{line}: patient '{patient.patient}' is already in line {seen[patient.patient]};"
                " a patient has one row, one site and one split"
            )
        seen[patient.patient] = line
        patients.append(patient)
    if not patients and not without:
        raise FedcallError(f"{path}: no patients below the header")
    return patients


def _read_row(path: Path, line: int, row: dict[str, str], upstream: bool, must_exist: bool) -> Patient:
    cells: dict[str, object] = {
        column: value.strip() if isinstance(value, str) else value for column, value in row.items()
    }
    cells = {column: value for column, value in cells.items() if value != ""}
    for column in ("alignments", "reads1", "reads2", "truth", "regions", "reference", "haploid"):
        if column in cells:
            file = (path.parent / str(cells[column])).resolve()
            if upstream and column in ("alignments", "reads1", "reads2"):
                file = Path(os.path.relpath(file))
            elif must_exist and not file.exists():
                raise FedcallError(f"{path}:{line}: {column}: no such file: {file}")
            cells[column] = file
    try:
        return Patient.model_validate(cells)
    except ValidationError as error:
        raise FedcallError(f"{path}:{line}: {describe(error)}") from None
