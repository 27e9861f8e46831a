"""What coordinator and hospital lay into each other's PySyft folders: jobs that hold data and nothing to run.

A job of the coordinator has a name of ours and, in `code/`, signed documents and perhaps a model. PySyft wants an entry
point in every job; ours, `main.py`, ends with an error at once, and nothing that a job brings is ever run: PySyft
binds an approval to a job's name and not to its content, so a job could be replaced after it was approved.

PySyft is an extra of fedcall (`fedcall[syft]`); this is the only file that imports it (syft-job 0.1.40).
"""

import contextlib
import hashlib
import io
import re
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedcall.errors import FedcallError
from fedcall.federation.drop_folder import NotThere, opened, read_plain
from fedcall.study.terms import Study

if TYPE_CHECKING:
    from syft_job import JobClient

ENTRY_POINT = "main.py"
MODEL_FILE = "model.safetensors.base64"  # PySyft carries text only into an inbox
_ENTRY = "raise SystemExit(\"this job is data for fedcall: answer it with 'fedcall syft answer'; it runs nothing\")\n"
FILES = (
    "study.json",
    "opening.json",
    "model.safetensors",
    "sentence.txt",
    "receipt.json",
    "admission.jsonl",
    "verdict.json",
)
_FILE_BYTES = 1024 * 1024 * 1024
_JOB_FILES = 64
_NAME = re.compile(r"fedcall-([0-9a-f]{16})-(round|receipt|verdict|closing)-(\d{4,6})")


@dataclass(frozen=True)
class JobName:
    """What a job of ours is about: `verdict` has the number of the judging round, `closing` of the final model."""

    study: str
    kind: str
    number: int

    def __str__(self) -> str:
        return f"fedcall-{self.study[:16]}-{self.kind}-{self.number:04d}"


def parse_name(text: str, study: Study) -> JobName | None:
    """Return what a job's name says if it is one of this study, else None."""
    match = _NAME.fullmatch(text)
    if match is None or match[1] != study.digest[:16]:
        return None
    name = JobName(study.digest, match[2], int(match[3]))
    return name if str(name) == text else None


@dataclass(frozen=True)
class Job:
    """A job in a datasite's folder.

    Attributes
    ----------
    status : str
        PySyft's: received, pending, approved, running, done, failed or rejected.
    submission, review : Path
        Where its files lie, and where the data owner's answer lies.
    submitter : str
        Email of who left it there; says nothing about who signed it.
    """

    name: str
    status: str
    submission: Path
    review: Path
    submitter: str
    info: Any

    def digest(self) -> str:
        """Return the SHA-256 over names and contents of all files of the submission.

        Raises
        ------
        NotThere
            If there are links, or more or larger files than a job of ours has.
        """
        digest = hashlib.sha256()
        files = [path for path in sorted(self.submission.rglob("*")) if path.is_symlink() or not path.is_dir()]
        if len(files) > _JOB_FILES:
            raise NotThere(f"{self.submission}: {len(files)} files, more than a job of fedcall has")
        for path in files:
            content = hashlib.sha256(_read(path.parent, path.name)).digest()
            name = str(path.relative_to(self.submission)).encode()
            digest.update(len(name).to_bytes(4, "big") + name + content)
        return digest.hexdigest()

    def file(self, name: str) -> bytes:
        """Return a file of the job's `code/`; NotThere if it is not there."""
        return _read(self.submission / "code", name)

    def output(self, name: str, limit: int) -> bytes:
        """Return a file of the answer's `outputs/`; NotThere if it is not there."""
        return _read(self.review / "outputs", name, limit)


@dataclass(frozen=True)
class SyftBox:
    """A PySyft folder and whose it is."""

    folder: Path
    email: str

    def own_job(self, owner: str, name: JobName) -> Job | None:
        """Return a job that this side left at a datasite; None while its owner has not received it."""
        require_syft()
        from syft_job.job import JobInfo

        with _quiet():
            client = self._client(is_owner=False)
            manager, ref = client.manager, client.manager.new_submission_ref(owner, str(name))
            try:
                info = JobInfo(manager.read_submission(ref), manager.read_state(ref), self.email, client, ref)
            except Exception:  # PySyft's readers raise many kinds for a file that is missing or cut
                return None
        return _job(info)

    def jobs_at(self, owner: str) -> list[Job]:
        """Return the jobs in a datasite's inbox, whoever left them there."""
        if not (self.folder / owner).is_dir():
            return []
        with _quiet():
            client = self._client(is_owner=owner == self.email)
            return [_job(info) for info in client._get_all_jobs() if info.datasite_owner_email == owner]

    def submit(self, owner: str, name: JobName, files: Mapping[str, bytes]) -> bool:
        """Leave a job of data at a datasite, unless it is there; say whether it was left now."""
        with _quiet():
            client = self._client(is_owner=False)
            folder = client.manager.submission_dir(client.manager.new_submission_ref(owner, str(name)))
            if (folder / "config.yaml").exists():  # PySyft writes it last
                return False
            shutil.rmtree(folder, ignore_errors=True)  # cut short by a kill
            with tempfile.TemporaryDirectory() as temporary:
                (Path(temporary) / ENTRY_POINT).write_text(_ENTRY)
                for file, content in files.items():
                    (Path(temporary) / file).write_bytes(content)
                client.submit_python_job(owner, temporary, job_name=str(name), dependencies=[], entrypoint=ENTRY_POINT)
        return True

    def approve(self, job: Job, reason: str) -> None:
        """Mark a job as approved, unless it is past that."""
        with _quiet():
            self._receive(job)
            if job.info.status == "pending":
                job.info.approve(reason=reason)

    def finish(self, job: Job, files: Mapping[str, bytes]) -> None:
        """Lay files into the answer's `outputs/`, mark the job as done, and let its submitter read them."""
        from syft_job.models import JobStatus

        from fedcall.files import write_bytes

        outputs = job.review / "outputs"
        outputs.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            path = outputs / name
            if not path.is_file() or path.read_bytes() != content:
                write_bytes(path, content)
        with _quiet():
            self._receive(job)
            manager, ref = job.info._client.manager, job.info._ref
            state = manager.read_state(ref)
            if state.status != JobStatus.DONE:
                state.status, state.completed_at, state.return_code = JobStatus.DONE, datetime.now(UTC), 0
                manager.write_state(ref, state)
            job.info.share_outputs([job.submitter])

    def _receive(self, job: Job) -> None:
        """Give a job its state, as PySyft's scan of the inbox does; that scan would reject what is not whole yet."""
        if job.status == "received":
            ref = job.info._ref
            job.info._state = job.info._client.receive_job(ref.ds_email, ref.job_name, ref.protocol_version)

    def _client(self, is_owner: bool) -> "JobClient":
        require_syft()
        from syft_job import JobClient, SyftJobConfig

        self.folder.mkdir(parents=True, exist_ok=True)
        config = SyftJobConfig(
            syftbox_folder=self.folder.resolve(), current_user_email=self.email, has_do_role=is_owner
        )
        return JobClient.from_config(config)


def require_syft() -> None:
    """Raise FedcallError that says what to install if PySyft is not there."""
    try:
        import syft_job  # noqa: F401
    except ImportError:
        raise FedcallError("PySyft is not installed; pip install 'fedcall[syft]'") from None


def _job(info: Any) -> Job:
    return Job(info.name, _status(info), info.job_submission_path, info.job_review_path, info.submitted_by, info)


def _status(info: Any) -> str:
    """Return a job's status; one that PySyft's scan rejected because files were missing is received again."""
    reason = info.review_reason or ""
    is_cut = reason.startswith("Expected {") or reason.endswith(("must be a directory", "must be a file"))
    return "received" if info.status == "rejected" and is_cut else str(info.status)


def _read(folder: Path, name: str, limit: int = _FILE_BYTES) -> bytes:
    try:
        with opened(folder) as descriptor:
            return read_plain(descriptor, name, limit)
    except FileNotFoundError:
        raise NotThere(f"{folder / name}: not there yet") from None
    except (FedcallError, OSError) as error:
        raise NotThere(f"{folder / name}: {error}") from None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """PySyft prints what it does, and warns of what only matters to code that it would run."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
