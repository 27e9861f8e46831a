"""What an honest privacy report states: fourteen points, the trust it rests on, and what it does not cover.

The points follow Ponomareva et al. 2023 ("How to DP-fy ML") and NIST SP 800-226 (2025).
"""

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from fedcall import __version__
from fedcall.attestation.policy import words
from fedcall.protection.bfv import SCHEME
from fedcall.reporting.privacy.clipping import clipping_statement
from fedcall.reporting.privacy.documents import ChecklistItem, Statement
from fedcall.study.terms import Study

PACKAGES = ("dp-accounting", "opacus", "torch", "flwr", "numpy", "cryptography")


def checklist(study: Study, spent: str, ledger: str, audit: str) -> tuple[ChecklistItem, ...]:
    """Return the fourteen points for a study.

    Parameters
    ----------
    study : Study
        Complete, as signed.
    spent : str
        The sentence on what has been spent, point 6.
    ledger : str
        The sentence on the cumulative spend over the ledger, point 11.
    audit : str
        The sentence on the audit's lower bound, point 12.
    """
    terms = study.privacy
    unit = terms.unit
    norm = "L2" if terms.mechanism == "gaussian" else "L1"
    adaptive = terms.clipping == "adaptive"
    size = f"norm of {terms.clip_norm:g}" + (" (at the start; it adapts)" if adaptive else "")
    bound = (
        f"All rows of a patient together are clipped to one {norm} {size} per step, however many candidates the"
        " patient has, so one patient moves the sum of a step by at most that."
        if unit == "patient"
        else f"Each example (one candidate site of one patient) is clipped to an {norm} {size} per step."
        " This is an example's guarantee, not a patient's: a patient has many examples, and with k examples the"
        " bound grows to k times epsilon at a larger delta, and nothing bounds k."
    )
    spread = "noise standard deviation" if terms.mechanism == "gaussian" else "Laplace scale"
    is_noisy = terms.noise_multiplier > 0
    adds = " and adds the noise itself" if is_noisy else "; this study adds no noise"
    noise = (
        "Noise comes from ChaCha20 keyed by the site's secret and bound to the sum it hides, so a rerun repeats a"
        " release and other inputs get independent noise. Sums and noise are whole numbers on a grid, and the noise has"
        " exactly the distribution that is accounted, in its tails too, against floating-point attacks. The guarantee"
        " is computational: it holds against everybody who cannot tell ChaCha20 and HKDF-SHA256 from chance, and nobody"
        " is known who can. The secret never leaves the site; whoever holds it can remove the noise."
        if is_noisy
        else "This study adds no noise, so no key or generator protects anybody."
    )
    texts = {
        "Setting, trust and the adversary's view": f"Each hospital is the trusted curator of its own patients{adds}"
        " before anything is sent. The adversary is taken to see every update of every round, not only the last model."
        " Who is trusted with what is listed under 'Whom this rests on'.",
        "Unit, contribution bound, overlap": f"The unit is one {unit}. {bound} A patient treated at two sites is"
        " counted at each of them and loses the sum; relatives are not covered.",
        "Adjacency": f"Add or remove one {unit}; the declared number of {unit}s is public and does not change with it.",
        "Everything released": f"Signed updates (local minus global weights) and claims"
        f"{f', which tell the noisy share of the {unit}s shorter than the clip norm in each step' if adaptive else ''}."
        " No loss, metric, count of"
        " candidates, batch size or plain digest of data leaves the site; training stops after the agreed rounds, never"
        f" early on private data. Calls and the evaluation report stay at the site.{_judge(study)}",
        "Data touched without privacy": "Normalisation of alignments and labels, pileups and likelihoods are computed"
        " per patient and stay at the site. Learning rate, clip norm and noise are agreed in the study before training;"
        " choosing them on private data would not be covered. Public data train the initial model without privacy; a"
        " patient who is also in the public data has no protection there.",
        "Epsilon and delta": f"{spent} Delta is below one over the declared {unit}s of every site. The guarantee at"
        " other deltas stands in the table 'The same guarantee at other deltas'.",
        "Accountant": f"dp-accounting {_version('dp-accounting')}: privacy loss distributions (PLD, pessimistic"
        " rounding) give the number that counts; Rényi accounting (RDP) is the cross-check beside it.",
        "Sampler": f"Poisson: each {unit} joins a step with chance {terms.sampling_rate:g}, drawn from a keyed stream"
        " of the site. The accountant assumes the same sampler.",
        "Mechanism and its numbers": f"{terms.mechanism.capitalize()} noise on the clipped sum; {spread} / clip norm"
        f" = {terms.noise_multiplier:g}, clip norm {terms.clip_norm:g} ({norm}), sampling rate {terms.sampling_rate:g},"
        f" {terms.steps_per_round} steps per round, {study.rounds} rounds planned; {clipping_statement(study)}."
        " Declared:"
        f" {', '.join(f'{study.units(site.name)} {unit}s at {site.name}' for site in study.sites)}.",
        "Noise source, floating point, keys": noise,
        "Cumulative spend": ledger,
        "Audit": audit,
        "Utility": "Stated in the evaluation report, per site and variant type, against the public-only model, the"
        " likelihood alone and bcftools. A private model that does not beat the public-only model must not ship.",
        "Code and configuration": f"fedcall {__version__}; study {study.digest}, signed by the coordinator; initial"
        f" weights {study.model.initial_weights}. Versions are listed at the end.",
    }
    return tuple(
        ChecklistItem(number=number, point=point, statement=text)
        for number, (point, text) in enumerate(texts.items(), start=1)
    )


def _judge(study: Study) -> str:
    """Return what held-out patients spend on judging the final model; nothing without a judge."""
    terms = study.evaluation
    if terms is None or terms.epsilon is None or not study.judging_sites:
        return ""
    declared = ", ".join(f"{site.holdout} at {site.name}" for site in study.judging_sites)
    return (
        " After the last round each site releases one signed number more: the sum over its held-out patients of their"
        f" differences of F1 between the final and the first model, each clipped to ±{terms.clip:g}, with"
        f" {terms.mechanism.capitalize()} noise. It costs each held-out patient epsilon = {terms.epsilon:g} at delta ="
        f" {terms.delta:g}, once, charged to that patient in the ledger; training patients lose nothing by it. Declared"
        f" held-out patients: {declared}."
    )


_SEALED = (
    "updates are sealed to an enclave. Its makers' keys, side channels and attacks with hands on the machine can break"
    " it; an operator who puts an older disk back is noticed, not stopped; and an average of one real site and invented"
    " ones shows that site. Then the site's own noise is what hides."
)


def trust(study: Study) -> tuple[Statement, ...]:
    """Return who is trusted with what in the mode used."""
    aggregator = (
        "receives updates over TLS and sees every site's noisy update. It need not be trusted for this bound: the noise"
        f" of each update protects every {study.privacy.unit} of that site from the aggregator too. It is trusted to"
        " average honestly."
        if study.privacy.noise_multiplier > 0
        else "receives updates over TLS and sees every site's exact update. Without noise everything rests on it."
    )
    if study.sends_sums:
        aggregator = _masked_aggregator(study)
    if study.protection.mode == "sealed":
        aggregator = _sealed_aggregator(study)
    return (
        Statement(
            topic="The site",
            statement="is trusted with its patients' data, its secret key, its ledger and the number of patients it"
            " declares.",
        ),
        Statement(topic="The aggregator", statement=aggregator),
        *_helpers(study),
        Statement(
            topic="The other sites",
            statement="see each round's global model, never another site's update. Nothing they do weakens this bound.",
        ),
    )


def _sealed_aggregator(study: Study) -> str:
    assert study.protection.evidence is not None  # read_study refuses an incomplete study
    rests = (
        f"This bound does not rest on it: the noise of each update protects every {study.privacy.unit} of that site"
        " even if the enclave is broken."
        if study.privacy.noise_multiplier > 0
        else "Without noise everything rests on it."
    )
    return (
        "runs in an enclave, whose evidence each site verified before it sealed an update to it; its operator sees no"
        f" single update, and averages over at least {study.least_sites} sites leave it. {rests} What the study accepts"
        f" as an enclave: {' '.join(words(study.protection.evidence))}"
    )


def _masked_aggregator(study: Study) -> str:
    spread = (
        "that sum carries all the noise, a single update only a share of it"
        if study.privacy.noise == "pooled"
        else "each update carries all the noise, too"
    )
    hidden = "masked and encrypted" if study.protection.is_encrypted else "masked"
    return (
        f"receives {hidden} updates over TLS and sees the sum of a round alone, over at least"
        f" {study.least_sites} sites: {spread}. It sees more if it works together with every helper, or if hospitals of"
        f" the study's list are its inventions: the noise is sized for {study.protection.tolerated_sites} that are"
        " false. It is trusted to average honestly. Checks of single updates are off in this mode: their norm, the"
        " shape of their noise, and the comparison of hospitals with each other. Floor and ceiling hold for the sum, so"
        " a hospital that sends something else spoils a round unnamed."
    )


def _helpers(study: Study) -> tuple[Statement, ...]:
    """Return what helpers are trusted with; nothing without any."""
    names = [helper.name for helper in study.protection.helpers]
    if not names:
        return ()
    if study.protection.encryption is not None:
        text = (
            f"({', '.join(names)}) each hold a part of the key that updates are encrypted to, and one mask of each"
            " update. Each adds the listed ciphertexts itself and gives one partial decryption a round, of one list; a"
            " sum is opened by all of them together, and one that is honest is enough to keep single updates closed. A"
            " holder that stops delays the study, and one whose key is lost ends it. The masks hold against hospitals"
            " and coordinators that do not keep to the protocol; the encryption alone would not, and holds besides"
            " against who only records what is sent. The scheme, by the library's own tables, with the parameters that"
            f" all holders signed (SHA-256 {study.protection.encryption.parameters[:12]}…): {SCHEME}."
        )
        return (Statement(topic="The key holders", statement=text),)
    text = (
        f"({', '.join(names)}) know the masks and never see an update; one that is honest is enough, and gives the"
        " masks of one list a round, never of a second. A helper that stops delays the study, and one whose"
        " key is lost ends it."
    )
    return (Statement(topic="The helpers", statement=text),)


def not_covered(study: Study) -> tuple[Statement, ...]:
    """Return what the numbers of a privacy report say nothing about."""
    lines = (
        Statement(
            topic="Relatives",
            statement="share variants; what a family's members contribute together is not bounded by one member's"
            " epsilon.",
        ),
        Statement(
            topic="Patients at two sites",
            statement="lose the sum of both sites' epsilons. Sites do not compare patient lists, so nobody notices.",
        ),
        Statement(
            topic="Data touched without privacy",
            statement="alignment, normalisation, the choice of terms and regions, and public data (including private"
            " patients who are also in it) are outside this bound.",
        ),
        Statement(
            topic="Trust in the aggregator",
            statement=_SEALED
            if study.protection.mode == "sealed"
            else f"updates are {study.protection.mode}: the aggregator sees a round's sum. It sees each site's"
            " update if all helpers work together with it, and knows the sum of the real sites if others are its"
            " inventions."
            if study.sends_sums
            else "updates travel by plain TLS: the aggregator sees each site's update, one by one. Only the site's own"
            " noise hides what is in it.",
        ),
        Statement(
            topic="Timing and side channels",
            statement="when a site answers, how long it computes, that it withholds a round, and anyone who can read"
            " the site's disks or memory.",
        ),
        Statement(
            topic="What is not released by training",
            statement="variant calls, evaluation figures and logs are computed from patients' data without noise. They"
            " stay at the site; sharing them is another decision.",
        ),
        Statement(
            topic="Facts about groups",
            statement="what a model learns about everybody (an artefact, a frequency) may say something about a patient"
            " who never took part.",
        ),
    )
    if study.privacy.unit == "patient":
        return lines
    patient = Statement(
        topic="Patients",
        statement="the unit is one example. A patient's guarantee is weaker than every epsilon here; k examples of one"
        " patient lose up to k times as much, at a larger delta.",
    )
    return (patient, *lines)


@dataclass(frozen=True)
class KeptAtSite:
    """What a site fits on its own patients (`local` in its configuration)."""

    recalibrated: bool = False
    own_chemistry: bool = False


def local_parameters(kept: KeptAtSite) -> tuple[Statement, ...]:
    """Return what a site fits on its own patients and keeps; nothing if it fits nothing."""
    tables = (
        "this site recalibrates the base qualities of each patient's reads with a table made from that patient's reads"
        " alone. The tables never leave, are no release, cost no epsilon and stand in no ledger. They change what"
        " training sees of the patient they were made from, and of nobody else, so the bound on one patient is as"
        " before."
    )
    chemistry = (
        "this site fits constants of the likelihood to its training patients without noise, once the study has ended,"
        " and calls its own held-out patients with them. That model and these calls are as private as the patients, and"
        " never leave: they are no release, cost no epsilon and stand in no ledger. No round, no judgement and no"
        " evaluation is made from them, and no study starts from them."
    )
    told = ((kept.recalibrated, tables), (kept.own_chemistry, chemistry))
    return tuple(Statement(topic="Local parameters", statement=text) for is_kept, text in told if is_kept)


def software() -> tuple[Statement, ...]:
    """Return the versions the guarantee depends on."""
    found = [Statement(topic="fedcall", statement=__version__)]
    return (*found, *(Statement(topic=name, statement=_version(name)) for name in PACKAGES))


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
