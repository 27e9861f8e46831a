"""`fedcall attestation`: evidence that an aggregator runs in an enclave."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from fedcall.cli.printing import say, say_block
from fedcall.errors import FedcallError

if TYPE_CHECKING:
    from fedcall.attestation.policy import EvidencePolicy

attestation = typer.Typer(help="Evidence of enclaves: verify it, collect it.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add `fedcall attestation`."""
    app.add_typer(attestation, name="attestation")


@attestation.callback()
def _group() -> None:
    pass


@attestation.command()
def verify(
    evidence: Path = typer.Argument(..., help="Folder with the evidence's files."),
    policy: Path = typer.Option(..., "--policy", help="What is allowed (.yaml), or the signed study (.json)."),
    report_data: str | None = typer.Option(
        None,
        "--report-data",
        help="What the evidence must be bound to, 128 hexadecimal digits. Default: from binding.json in the folder.",
    ),
    time: str | None = typer.Option(
        None, "--time", help="Verify as of this time, for example 2025-09-01 or 2025-09-01T12:00:00Z. Default: now."
    ),
    explain: bool = typer.Option(False, "--explain", help="Print every check: what, what is allowed, what was found."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Verify evidence of AMD SEV-SNP, Intel SGX or Intel TDX against a policy, offline.

    Whatever the policy does not allow is refused, with a code and a sentence, and exit status 3. Roots of AMD and Intel
    ship with fedcall; certificates, revocation lists and collateral are files of the evidence.

    Example: fedcall attestation verify evidence/ --policy policy.yaml --explain
    """
    import json
    from dataclasses import asdict

    from fedcall.attestation.evidence import expected_report_data, read_evidence, verify_evidence
    from fedcall.attestation.policy import words

    allowed = _read_policy(policy)
    verdict = verify_evidence(
        read_evidence(evidence), allowed, expected_report_data(evidence, report_data), parse_time(time)
    )
    if as_json:
        result: dict[str, Any] = {**asdict(verdict), "policy": words(allowed)}
        say_block(json.dumps(result, indent=2))
        return
    if explain:
        for sentence in words(allowed):
            say(f"policy: {sentence}")
        for check in verdict.checks:
            say(f"{check.code}: {check.what}: found {check.found}; allowed is {check.allowed}")
    say(
        f"verified at {verdict.time}: {verdict.platform}, {verdict.details}, runs image {verdict.measurement}"
        f" ({len(verdict.checks)} checks)"
    )


@attestation.command()
def collect(
    folder: Path = typer.Argument(..., help="Folder to write the evidence into."),
    provider: str = typer.Option(
        ..., "--provider", help="tsm (SEV-SNP, TDX; Linux 6.7 or newer), sev-guest (older) or gramine (SGX)."
    ),
    report_data: str = typer.Option(..., "--report-data", help="What to bind to, 128 hexadecimal digits."),
    endorsements: Path | None = typer.Option(
        None,
        "--endorsements",
        help="Folder with key.der, chain.pem, revoked.crl or collateral.json, where the host hands nothing over.",
    ),
    device: Path | None = typer.Option(
        None, "--device", help="Where the kernel's files lie, if not at the usual place."
    ),
) -> None:
    """Ask this machine's processor for evidence, and write it as a folder.

    Run inside an enclave, to see whether it can be verified.

    Example: fedcall attestation collect evidence --provider tsm --report-data 00…00 --endorsements amd/
    """
    from fedcall.attestation import providers, sev_guest
    from fedcall.attestation.evidence import write_evidence

    try:
        bound = bytes.fromhex(report_data)
    except ValueError:
        bound = b""
    if len(bound) != 64:
        raise FedcallError(f"--report-data: 128 hexadecimal digits expected, found {len(report_data)} characters")
    ways = {
        "tsm": (providers.from_tsm, providers.TSM_FOLDER),
        "sev-guest": (providers.from_sev_guest, sev_guest.DEVICE),
        "gramine": (providers.from_gramine, providers.GRAMINE_FOLDER),
    }
    if provider not in ways:
        raise FedcallError(f"--provider {provider}: one of {', '.join(ways)} expected")
    asked, default = ways[provider]
    evidence = asked(bound, providers.read_endorsements(endorsements), device or default)
    write_evidence(folder, evidence)
    say(f"{folder}: evidence of {evidence.platform}")


@attestation.command()
def simulate(
    folder: Path = typer.Argument(..., help="Folder that plays the machine; kept if it is there."),
    policy: Path = typer.Option(..., "--policy", help="Where to write the policy that accepts it (.yaml)."),
) -> None:
    """Make a simulated machine for rehearsals of sealed studies, and the policy that accepts it and nothing else.

    It protects nothing, and no policy of a real platform accepts it.

    Example: fedcall attestation simulate private/enclave --policy policy.yaml
    """
    import yaml

    from fedcall.attestation.enclave import create_simulated
    from fedcall.files import write_text

    machine = create_simulated(folder)
    write_text(policy, yaml.safe_dump(machine.policy.model_dump(mode="json", exclude_none=True), sort_keys=False))
    say(f"{folder}: a SIMULATED machine, which protects nothing; {policy} accepts it")


@attestation.command()
def image(
    output: Path = typer.Option(..., "--output", help="Folder for vmlinuz, initrd.img, cmdline, contents.json."),
    packages: Path = typer.Option(
        Path("resources/image"), "--packages", help="Folder in which fetched packages are kept, by digest."
    ),
    lock: Path | None = typer.Option(
        None, "--lock", help="Folder of debian.txt and wheels.txt; left out, those that fedcall ships."
    ),
    constraints: Path | None = typer.Option(
        None,
        "--renew",
        metavar="CONSTRAINTS.TXT",
        help="First write --lock anew: Debian's packages of today, wheels of the versions in this file. Another image,"
        " another measurement.",
    ),
    is_trial: bool = typer.Option(
        False, "--trial", help="An image for a SIMULATED machine, for a trial in emulation; it protects nothing."
    ),
) -> None:
    """Build the image of a sealed study's aggregator: kernel, initramfs, command line. Every build is the same bytes.

    It holds Linux, Python and what the aggregator imports; no shell, no login, no other service. Packages are fetched
    with apt-get (Debian 12) and pip, and each is held against its digest in the lock.

    Example: fedcall attestation image --output results/enclave-image
    """
    from fedcall.enclave_image.packages import LOCK, read_lock, renew
    from fedcall.enclave_image.recipe import build

    chosen = read_lock(lock or LOCK) if constraints is None else renew(lock or LOCK, constraints, packages)
    made = build(output, chosen, packages, "simulated" if is_trial else "sev-snp")
    for name, digest in made.items():
        say(f"{digest}  {output / name}")


@attestation.command()
def measure(
    launch: Path = typer.Argument(..., help="How the image is started (.yaml): image, firmware, processors."),
) -> None:
    """Print what SEV-SNP will measure when an image is started, for the policy of a study.

    Computed by sev-snp-measure from firmware, kernel, initramfs, command line, and number and kind of processors.

    Example: fedcall attestation measure launch.yaml
    """
    from fedcall.attestation.launch import measurements

    for measurement in measurements(launch):
        say(measurement)


def _read_policy(path: Path) -> "EvidencePolicy":
    from fedcall.attestation.policy import EvidencePolicy
    from fedcall.study.terms import read_study
    from fedcall.yaml_files import read_yaml

    if path.suffix != ".json":
        return read_yaml(path, EvidencePolicy)
    study = read_study(path)
    if study.protection.evidence is None:
        raise FedcallError(f"{path}: study '{study.name}' has no policy: its protection mode is not 'sealed'")
    return study.protection.evidence


def parse_time(text: str | None) -> Any:
    """Return the time that an option names; now without one."""
    import datetime

    if text is None:
        return datetime.datetime.now(datetime.UTC)
    try:
        found = datetime.datetime.fromisoformat(text)
    except ValueError:
        raise FedcallError(f"--time {text}: a date or time expected, for example 2025-09-01T12:00:00Z") from None
    return found if found.tzinfo else found.replace(tzinfo=datetime.UTC)
