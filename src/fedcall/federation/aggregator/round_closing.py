"""What closing a round makes of its admitted updates: who is an outlier, who is averaged, the next global model.

It only reads; the same files and log give the same closing, whenever it is done and however often.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fedcall.documents import read_unverified
from fedcall.federation.aggregator.aggregation import Contribution, Moments, NextGlobal, next_global, read_moments
from fedcall.federation.aggregator.noise_checks import EarlierUpdates, noise_of_last_step
from fedcall.federation.aggregator.outliers import Screened, find_outliers
from fedcall.federation.aggregator.state_files import StudyFiles
from fedcall.federation.aggregator.study_log import StudyLog
from fedcall.federation.aggregator.update_checks import claimed_noise_std
from fedcall.study.admission_log import PutOut
from fedcall.study.claims import Claim
from fedcall.study.terms import Study


@dataclass(frozen=True)
class Closing:
    """The end of a round: sites whose updates were averaged, sites put out as outliers, and the model that follows.

    `masks` are the helpers' signed answers if a sum was opened; `void` says why nothing was averaged.
    """

    accepted: tuple[str, ...]
    outliers: tuple[PutOut, ...]
    made: NextGlobal
    masks: tuple[str, ...] = ()
    void: str | None = None


def admitted_sites(study: Study, log: StudyLog) -> list[str]:
    """Return the sites whose update to the open round was accepted when it arrived."""
    answers = {site.name: log.site(site.name).settled.get(log.open_round) for site in study.sites}
    return [name for name, answer in answers.items() if answer is not None and answer.entry.status == "accepted"]


def close_round(
    study: Study, files: StudyFiles, log: StudyLog, base: Mapping[str, np.ndarray], earlier: EarlierUpdates
) -> Closing:
    """Compare the admitted updates of the open round with all others and average those that stand."""
    number, terms = log.open_round, study.aggregation
    admitted = admitted_sites(study, log)
    repeated = _repeated(study, files, log, admitted, earlier)
    outliers = repeated + _outliers(study, files, log, [name for name in admitted if not _names(repeated, name)])
    left_out = {outlier.site for outlier in outliers}
    accepted = tuple(name for name in admitted if name not in left_out)
    if len(accepted) < study.least_sites:
        accepted = ()  # too few to average: the model stays as it is
    contributions = [Contribution(name, files.update(number, name), study.site(name).patients) for name in accepted]
    return Closing(accepted, outliers, next_global(base, contributions, terms, moments_of(files, log)))


def _repeated(
    study: Study, files: StudyFiles, log: StudyLog, admitted: Sequence[str], earlier: EarlierUpdates
) -> tuple[PutOut, ...]:
    """Put out updates whose noise is that of another: of an earlier round, or of a site that sent it before."""
    number = log.open_round
    settled = [entry for entry in (decision.entry for decision in log.decisions) if entry.settles]
    arrival = {entry.site: place for place, entry in enumerate(settled) if entry.round == number}
    ordered = sorted(admitted, key=lambda name: arrival[name])
    claims = [read_unverified(files.claim(number, name).read_bytes(), Claim)[0] for name in ordered]
    reused = earlier.find_reused(
        [files.update(number, name) for name in ordered],
        [noise_of_last_step(study, claim) for claim in claims],
        [files.update(before - 1, name) for before in range(2, number + 1) for name in log.openings[before].accepted],
        study.privacy.mechanism,
    )
    return tuple(put_out(study, log, ordered[position], "its noise is that of another update") for position in reused)


def _names(put_out: Sequence[PutOut], name: str) -> bool:
    return any(one.site == name for one in put_out)


def put_out(study: Study, log: StudyLog, name: str, reason: str, quarantines: bool = False) -> PutOut:
    """Return what the log says of a site of the open round whose update is put out, for this reason."""
    return PutOut(
        site=name,
        sentence=f"round {log.open_round}: not averaged, {reason}",
        quarantines=quarantines or log.site(name).refusals_in_a_row + 1 >= study.admission.max_refusals,
    )


def _outliers(study: Study, files: StudyFiles, log: StudyLog, admitted: Sequence[str]) -> tuple[PutOut, ...]:
    number, terms = log.open_round, study.admission
    if terms.outlier_z is None:
        return ()
    updates = [
        Screened(
            name,
            files.update(number, name),
            claimed_noise_std(study, read_unverified(files.claim(number, name).read_bytes(), Claim)[0]),
        )
        for name in admitted
    ]
    found = find_outliers(updates, terms.outlier_z, terms.outlier_ratio, study.privacy.mechanism)
    return tuple(put_out(study, log, outlier.site, outlier.sentence) for outlier in found)


def moments_of(files: StudyFiles, log: StudyLog) -> Moments | None:
    """Return fedadam's moments going into the open round; None with every other strategy and before its first step."""
    digest = log.openings[log.open_round].moments
    return None if digest is None else read_moments(files.moments(log.open_round), digest)
