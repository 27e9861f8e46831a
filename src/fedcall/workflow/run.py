"""One run of the workflow: configuration, patients and study, read and checked together before any job starts."""

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from fedcall.errors import FedcallError
from fedcall.genomics.index_files import alignment_index, reference_indexes, reference_needs_csi
from fedcall.protection.bfv import HOW_TO_INSTALL, find_interpreter
from fedcall.study.terms import Study, read_study, read_study_terms
from fedcall.workflow.agreement import ENCLAVE, check_rehearsal, check_site, rehearsal_helpers
from fedcall.workflow.closing import read_closing
from fedcall.workflow.configuration import RELATIVE_TO, Config, Patient, read_config, read_samples
from fedcall.workflow.rows_of_people import PUBLIC, check_rows
from fedcall.workflow.withdrawn import record_folders, withdrawn_names
from fedcall.yaml_files import place

COHORT_FOLDER = Path("resources/cohort")
SMALL_BASES = 200_000
"""What is several jobs of a larger patient is one job of a patient whose regions have no more bases than this."""
# Folders beside those of the sites, under results/{study} and private.
RESERVED_NAMES = (PUBLIC, "aggregator", "coordinator")


@dataclass(frozen=True)
class Run:
    """What the workflow is asked to do.

    Attributes
    ----------
    config : Config
    study : Study
        The terms in a rehearsal (without sites and initial weights), the signed study at a site.
    sites : tuple of str
        Sites whose jobs run here: all of them in a rehearsal, one at a hospital.
    patients : tuple of Patient
        Patients of these sites and public people.
    closed_after : int or None
        The last round that counts, of a study that its coordinator closed early.
    """

    config: Config
    study: Study
    sites: tuple[str, ...]
    patients: tuple[Patient, ...]
    closed_after: int | None = None

    @property
    def is_rehearsal(self) -> bool:
        """Whether the whole federation runs here, with an aggregator of its own."""
        return self.config.site is None

    @property
    def references(self) -> list[Path]:
        """The patients' references, each once; none of simulated people, whose contigs are short."""
        if self.config.cohort is not None:
            return []
        own = [patient.reference or self.config.reference for patient in self.patients]
        return list(dict.fromkeys(reference for reference in own if reference is not None))

    @property
    def needs_csi(self) -> bool:
        """Whether the indexes of this run's alignments and calls are `.csi`: one kind for all of its patients."""
        return any(reference_needs_csi(reference) for reference in self.references)

    @property
    def rounds(self) -> int:
        """Rounds of this run: those of the study, or those it has if its coordinator closed it early."""
        return self.closed_after or self.study.rounds

    @property
    def charges_for_good(self) -> str | None:
        """What must be said before a rehearsal that charges private people; None for every other run."""
        judging = {name for names in self.judging.values() for name in names}
        private = [
            one for one in self.patients if one.private == "yes" and (one.split == "train" or one.patient in judging)
        ]
        if not self.is_rehearsal or not private:
            return None
        ledgers = sorted({self.config.ledger.format(site=patient.site) for patient in private})
        return (
            f"this rehearsal charges {len(private)} private people for good, in"
            f" {', '.join(ledgers)}: keep what it writes there"
        )

    @cached_property
    def by_name(self) -> dict[str, Patient]:
        """Patients by name."""
        return {patient.patient: patient for patient in self.patients}

    @cached_property
    def bases(self) -> dict[str, int]:
        """How many bases each patient's regions have, by name; 0 where the workflow has yet to make the files.

        Regions that the workflow makes of the patient's gVCF count with all of their reference.
        """
        from fedcall.genomics.shards import count_bases

        if self.config.cohort is not None:
            return dict.fromkeys(self.by_name, self.config.cohort.region_length)
        each_once = dict.fromkeys(self._files_with_bases(patient) for patient in self.patients)
        known = {files: count_bases(*files) for files in each_once}
        return {patient.patient: known[self._files_with_bases(patient)] for patient in self.patients}

    def _files_with_bases(self, patient: Patient) -> tuple[Path | None, Path | None]:
        return None if patient.has_gvcf_regions else patient.regions, patient.reference or self.config.reference

    @cached_property
    def training(self) -> dict[str, list[str]]:
        """Names of training patients by folder: the site, or 'public'."""
        return self._names(lambda patient: patient.split in ("train", PUBLIC))

    @cached_property
    def holdout(self) -> dict[str, list[str]]:
        """Names of held-out patients by folder: the site, or 'public'."""
        return self._names(lambda patient: patient.split == "holdout")

    @cached_property
    def scored(self) -> dict[str, list[str]]:
        """Names of held-out patients with a truth by folder: the site, or 'public'."""
        return self._names(lambda patient: patient.split == "holdout" and patient.truth is not None)

    @property
    def enclave(self) -> str | None:
        """The simulated machine that a rehearsal of sealed updates makes for itself; a hospital makes none."""
        is_made = self.is_rehearsal and self.study.protection.mode == "sealed"
        return ENCLAVE if is_made and self.study.protection.evidence is None else None

    @property
    def helpers(self) -> tuple[str, ...]:
        """Names of the helpers that a rehearsal makes for itself, where sums alone are seen; a hospital makes none."""
        return rehearsal_helpers(self.study) if self.is_rehearsal else ()

    @property
    def has_judge(self) -> bool:
        """Whether held-out patients judge the final model."""
        if self.is_rehearsal:
            return bool(self.judging)
        return bool(self.study.judging_sites)

    @cached_property
    def judging(self) -> dict[str, list[str]]:
        """Names of the held-out patients who judge the final model, by site of this run that has any."""
        terms = self.study.evaluation
        if terms is None or terms.epsilon is None:
            return {}
        declared = {site.name for site in self.study.judging_sites}
        sites = self.sites if self.is_rehearsal else [site for site in self.sites if site in declared]
        return {site: self.scored[site] for site in sites if self.scored[site]}

    @cached_property
    def swept(self) -> dict[str, Path]:
        """Files with the study terms of the target privacy_utility_sweep by the studies' names: this run's, first."""
        found = {self.study.name: self.config.study}
        for path in self.config.sweep.studies:
            name = read_study_terms(path).name
            if name in found:
                raise FedcallError(f"{path}: study '{name}' is in the sweep already ({found[name]}); name it otherwise")
            found[name] = path
        return found

    def _names(self, belongs: Callable[[Patient], bool]) -> dict[str, list[str]]:
        names: dict[str, list[str]] = {folder: [] for folder in (*self.sites, PUBLIC)}
        for patient in self.patients:
            if belongs(patient):
                names[patient.site].append(patient.patient)
        return names


def jobs_per_patient(run: Run) -> dict[str, int]:
    """Return on how many jobs each patient's shards are spread, by name; at most `shard_size` bases a shard.

    Regions that the workflow has yet to make count with all of their reference.
    """
    from fedcall.genomics.shards import count_jobs, count_shards

    size, at_most = run.config.shard_size, run.config.shard_jobs
    return {name: count_jobs(count_shards(bases, size), at_most) for name, bases in run.bases.items()}


def small_patients(run: Run) -> frozenset[str]:
    """Return whose regions have at most `SMALL_BASES`: the start of a job takes longer than what it does for them."""
    return frozenset(name for name, bases in run.bases.items() if bases <= SMALL_BASES)


def load_run(path: Path, content: Mapping[str, Any] | None = None, upstream: bool = False) -> Run:
    """Read and check a configuration with its sheets and its study.

    Parameters
    ----------
    path : Path
        `config.yaml`. Paths in it are relative to the working directory.
    content : mapping, optional
        The configuration's values after changes from a command line; the file's own if left out.
    upstream : bool
        Rules of another workflow may make alignments that are not there yet.

    Raises
    ------
    FedcallError
        On the first mistake found, in one line: the file and line, what was found, what to do.
    """
    path = Path(path)
    config = read_config(path, content)
    if config.syft is not None:
        from fedcall.federation.syft_jobs import require_syft

        require_syft()
    study = _read_study(path, config)
    if study.protection.is_encrypted and find_interpreter() is None:
        raise FedcallError(f"{config.study}: protection.mode 'encrypted': {HOW_TO_INSTALL}")
    _check_panel(path, config)
    patients = _read_patients(path, config, upstream)
    declared = Counter(patient.site for patient in patients if patient.split == "train")
    if config.site is None:
        check_rehearsal(config, study, patients, declared)
        sites = tuple(declared)
    else:
        check_site(path, config, study, patients)
        sites = (config.site,)
    here = tuple(patient for patient in patients if patient.site in (*sites, PUBLIC))
    return Run(config, study, sites, here, read_closing(Path("results") / study.name))


def _read_study(path: Path, config: Config) -> Study:
    if not config.study.is_file():
        raise FedcallError(f"{place(path, ['study'])}: study: no such file: {config.study} ({RELATIVE_TO})")
    if config.site is None:
        study = read_study_terms(config.study)
        if study.sites or study.coordinator or study.model.initial_weights:
            raise FedcallError(
                f"{config.study}: a rehearsal makes its own keys and initial weights; leave out 'sites', 'coordinator'"
                " and 'model.initial_weights', or set 'site' in the configuration to take part in a signed study"
            )
        return study
    study = read_study(config.study)
    if study.digest != config.approved_study:
        raise FedcallError(
            f"{place(path, ['approved_study'])}: approved_study is {config.approved_study}, but {config.study} has"
            f" digest {study.digest}; read what changed with 'fedcall study check --study {config.study}' before"
            " you approve it"
        )
    return study


def _check_panel(path: Path, config: Config) -> None:
    """Look for the panel and its index; what is in them is checked by the first job that calls."""
    if config.panel is None:
        return
    if not config.panel.is_file():
        raise FedcallError(f"{place(path, ['panel'])}: panel: no such file: {config.panel} ({RELATIVE_TO})")
    if not any(Path(f"{config.panel}{suffix}").is_file() for suffix in (".tbi", ".csi")):
        raise FedcallError(f"{config.panel}: no index beside it; make one with 'tabix -p vcf {config.panel}'")


def _read_patients(path: Path, config: Config, upstream: bool) -> list[Patient]:
    if config.cohort is not None:
        reserved = [name for name in config.cohort.sites if name in RESERVED_NAMES]
        if reserved:
            raise FedcallError(f"{place(path, ['cohort', 'sites', reserved[0]])}: no site may be named '{reserved[0]}'")
        return config.cohort.patients(COHORT_FOLDER)
    for key in ("samples", "public_samples", "reference"):
        file = getattr(config, key)
        if file is not None and not file.is_file():
            raise FedcallError(f"{place(path, [key])}: {key}: no such file: {file} ({RELATIVE_TO})")
    assert config.samples is not None
    gone = withdrawn_names(record_folders(config.ledger, config.site))
    patients = [_in_public_folder(patient) for patient in read_samples(config.samples, upstream, without=gone)]
    for patient in patients:
        public_holdout = patient.site == PUBLIC and patient.split == "holdout"
        if patient.split != PUBLIC and patient.site in RESERVED_NAMES and not public_holdout:
            raise FedcallError(
                f"{config.samples}: patient '{patient.patient}': no site may be named '{patient.site}'"
                f" (reserved: {', '.join(RESERVED_NAMES)})"
            )
    if config.public_samples is not None:
        patients += _read_public(config.public_samples, {patient.patient for patient in patients}, gone)
    for patient in patients:
        _check_files(config, patient, upstream)
    check_rows(config.samples, patients)
    return patients


def _read_public(sheet: Path, taken: set[str], gone: Collection[str]) -> list[Patient]:
    people = read_samples(sheet, without=gone)
    for person in people:
        if person.split == "train":
            raise FedcallError(
                f"{sheet}: '{person.patient}' has split 'train'; public people have 'public' or 'holdout'"
            )
        if person.patient in taken:
            raise FedcallError(f"{sheet}: '{person.patient}' is already in the sheet of patients")
    return [person.model_copy(update={"site": PUBLIC, "private": "no"}) for person in people]


def _in_public_folder(patient: Patient) -> Patient:
    return patient.model_copy(update={"site": PUBLIC}) if patient.split == PUBLIC else patient


def _check_files(config: Config, patient: Patient, upstream: bool) -> None:
    reference = patient.reference or config.reference
    assert reference is not None  # `samples` come with one
    for index in reference_indexes(reference):
        if not index.is_file():
            raise FedcallError(
                f"{reference}: no {index.suffix} beside it; make its index with 'samtools faidx {reference}'"
            )
    alignments = patient.alignments
    to_come = alignments is not None and upstream and not alignments.exists()
    if alignments is not None and not to_come and alignment_index(alignments) is None:
        raise FedcallError(
            f"{alignments}: no index beside it (patient '{patient.patient}');"
            f" make one with 'samtools index {alignments}'"
        )
    if patient.split == "holdout" and patient.truth is not None and patient.regions is None:
        raise FedcallError(
            f"patient '{patient.patient}': held out with a truth but without 'regions', within which calls are scored"
        )
