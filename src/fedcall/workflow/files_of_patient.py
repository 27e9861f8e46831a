"""Which files under `results`, `logs` and `benchmarks` were made from one patient, and which only name the patient."""

import base64
import binascii
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

# Folders of results/{study}/{site} whose files are one patient's each, named after the patient.
FOLDERS = (
    "aligned",
    "alignments",
    "regions",
    "labels",
    "base_qualities",
    "examples",
    "calls",
    "own_calls",
    "baselines",
    "concordance",
    "unseen",
    "errors",
    "agreement",
    "callers",
)
_SCORED = ("calls", "concordance", "errors", "agreement")  # whose files enter the evaluation
# Rules with jobs of one patient: at which place in the name of a log, parted by dots, the patient stands.
JOBS = {
    "align_reads": 2,
    "normalise_alignments": 2,
    "normalise_labels": 2,
    "confident_regions": 2,
    "recalibrate_qualities": 2,
    "prepare_training_patient": 2,
    "prepare_patient": 2,
    "evaluate_patient": 2,
    "evaluate_baselines": 2,
    "extract_pileup": 2,
    "extract_pileup_shard": 2,
    "extract_thinned_pileup": 3,
    "gather_pileup": 2,
    "call_variants": 2,
    "call_own_variants": 2,
    "call_variants_shard": 2,
    "call_classical": 2,
    "call_baseline": 3,
    "call_baseline_shard": 3,
    "gather_calls": 2,
    "gather_baseline": 3,
    "evaluate_calls": 3,
    "evaluate_unseen": 3,
    "list_errors": 2,
    "call_freebayes": 2,
    "call_gatk": 2,
    "call_deepvariant": 2,
    "collect_calls": 3,
    "prepare_regions": 2,
}
_TEXT_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True)
class FilesOfPatient:
    """Files made from a patient, folders that may be empty without them, and other files in which the name stands."""

    made: tuple[Path, ...]
    folders: tuple[Path, ...]
    named: tuple[Path, ...]


def find_files(patient: str, person: str, sites: Sequence[str]) -> FilesOfPatient:
    """Look through the working directory; an evaluation is made from all of its held-out patients."""
    made = sorted({*_results(patient, sites), *_of_jobs(patient, sites)})
    made += [path for path in _metadata(made) if path.is_file()]
    folders = sorted({path.parent for path in made if path.parent.name.startswith(f"{patient}.")}, reverse=True)
    known = set(made)
    named = [path for path in _elsewhere() if path not in known and _names(path, {patient, person})]
    return FilesOfPatient(tuple(made), tuple(folders), tuple(named))


def _results(patient: str, sites: Sequence[str]) -> Iterator[Path]:
    for study in sorted(Path("results").glob("*")):
        scored = False
        for site in sites:
            for folder in FOLDERS:
                for path in (study / site / folder).rglob("*"):
                    if path.is_file() and _is_of(path.relative_to(study / site / folder), patient):
                        scored = scored or folder in _SCORED
                        yield path
                        if folder == "examples":  # the fit may have seen the patient
                            yield from (study / site).glob("own_model.safetensors")
        if scored:
            yield from study.glob("evaluation*.*")
            yield from (path for site in sites for path in (study / site).glob("allele_counts.tsv"))


def _is_of(path: Path, patient: str) -> bool:
    """Say whether a file, or the folder of its shards, is named after the patient; what a killed job left, too."""
    name = path.name.split(".")
    if name[0] == "" and len(name) > 2:  # .RANDOM.NAME.SUFFIX
        name = name[2:]
    return name[0] == patient or f"{patient}.shards" in path.parts[:-1]


def _of_jobs(patient: str, sites: Sequence[str]) -> Iterator[Path]:
    for kind in ("logs", "benchmarks"):
        for rule, place in JOBS.items():
            for path in Path(kind, rule).glob("*"):
                parts = path.name.split(".")
                if len(parts) > place + 1 and parts[1] in sites and parts[place] == patient:
                    yield path


def _metadata(made: Sequence[Path]) -> Iterator[Path]:
    """Yield what Snakemake keeps about files; it names each record after the file, in base64."""
    wanted = {str(path) for path in made}
    folder = Path(".snakemake/metadata")
    for path in folder.rglob("*") if folder.is_dir() else ():
        if path.is_file() and _decoded("".join(path.relative_to(folder).parts).replace("@", "")) in wanted:
            yield path


def _decoded(name: str) -> str:
    try:
        return base64.b64decode(name, altchars=b"-_", validate=False).decode()
    except (binascii.Error, UnicodeDecodeError):
        return ""


def _elsewhere() -> Iterator[Path]:
    for folder in ("results", "logs", "benchmarks", ".snakemake/log"):
        yield from (path for path in sorted(Path(folder).rglob("*")) if path.is_file() and not path.is_symlink())


def _names(path: Path, names: set[str]) -> bool:
    pattern = "|".join(re.escape(name) for name in sorted(names))
    pattern = rf"(?<![A-Za-z0-9_-])(?:{pattern})(?![A-Za-z0-9_-])"
    if re.search(pattern, path.name):
        return True
    if path.suffix in (".bam", ".bai", ".safetensors", ".gz", ".tbi", ".csi") or path.stat().st_size > _TEXT_BYTES:
        return False
    return re.search(pattern.encode(), path.read_bytes()) is not None
