"""`fedcall attestation` as an officer uses it."""

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from fedcall.attestation.binding import Binding, report_data
from fedcall.attestation.enclave import read_simulated
from fedcall.attestation.evidence import write_evidence
from fedcall.cli import app, commands
from fedcall.errors import FedcallError
from real_evidence import intel_evidence, intel_policy, intel_report_data, snp_evidence, snp_policy, snp_report_data

commands.register(app)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    evidence = snp_evidence("oak_genoa_v5")
    write_evidence(tmp_path / "evidence", evidence)
    policy = snp_policy(evidence).model_dump(mode="json", exclude_none=True)
    (tmp_path / "policy.yaml").write_text(yaml.safe_dump(policy))
    return tmp_path


def verify(folder: Path, *options: str) -> Result:
    arguments = ["attestation", "verify", str(folder / "evidence"), "--policy", str(folder / "policy.yaml"), *options]
    return CliRunner().invoke(app, arguments)


def test_verify(folder: Path) -> None:
    data = snp_report_data(snp_evidence("oak_genoa_v5")).hex()
    done = verify(folder, "--report-data", data, "--time", "2025-09-01", "--explain")
    assert done.exit_code == 0, done.output
    assert "verified at 2025-09-01T00:00:00Z: sev-snp, Genoa, SEV firmware 1.55.43" in done.output
    assert "tcb: reported snp version: found 25; allowed is 25 or more" in done.output
    document = json.loads(verify(folder, "--report-data", data, "--time", "2025-09-01", "--json").output)
    assert document["platform"] == "sev-snp"
    assert len(document["checks"]) > 30


def test_verify__refusals_and_mistakes(folder: Path) -> None:
    data = snp_report_data(snp_evidence("oak_genoa_v5")).hex()
    stale = verify(folder, "--report-data", data, "--time", "2025-12-01")
    assert isinstance(stale.exception, FedcallError)
    assert stale.exception.exit_code == 3
    assert "revocation-list-dates" in str(stale.exception)
    for options, said in (
        (("--time", "2025-09-01"), "nothing ties the evidence to anything"),
        (("--time", "soon", "--report-data", data), "a date or time expected"),
        (("--report-data", "abc"), "128 hexadecimal digits"),
    ):
        failed = verify(folder, *options)
        assert isinstance(failed.exception, FedcallError)
        assert failed.exception.exit_code == 2
        assert said in str(failed.exception)
    (folder / "evidence/key.der").unlink()
    missing = verify(folder, "--report-data", data)
    assert "no such file of evidence" in str(missing.exception)


def test_verify__a_recorded_binding_is_what_counts(folder: Path) -> None:
    binding = Binding(nonce="11" * 32, tls_key="22" * 32, hpke_key="33" * 32, study="44" * 32)
    write_evidence(folder / "evidence", snp_evidence("oak_genoa_v5"), binding)
    other = verify(folder, "--time", "2025-09-01")
    assert "binding" in str(other.exception)
    both = verify(folder, "--time", "2025-09-01", "--report-data", "00" * 64)
    assert "leave one out" in str(both.exception)


def test_verify__a_quote(tmp_path: Path) -> None:
    evidence = intel_evidence("tdx_quote")
    write_evidence(tmp_path / "evidence", evidence)
    policy = intel_policy(evidence).model_dump(mode="json", exclude_none=True)
    (tmp_path / "policy.yaml").write_text(yaml.safe_dump(policy))
    data = intel_report_data(evidence).hex()
    done = verify(tmp_path, "--report-data", data, "--time", "2025-06-20T00:00:00Z")
    assert "tdx, firmware UpToDate" in done.output, done.exception


def test_simulate__a_machine_and_the_policy_that_accepts_it(tmp_path: Path) -> None:
    command = ["attestation", "simulate", str(tmp_path / "machine")]
    made = [
        CliRunner().invoke(app, [*command, "--policy", str(tmp_path / name)]) for name in ("policy.yaml", "again.yaml")
    ]
    assert "protects nothing" in made[0].output
    assert (tmp_path / "policy.yaml").read_text() == (tmp_path / "again.yaml").read_text(), "the machine was made anew"
    machine = read_simulated(tmp_path / "machine")
    bound = Binding(nonce="01" * 32, tls_key="02" * 32, hpke_key="03" * 32, study="04" * 32)
    write_evidence(tmp_path / "evidence", machine.evidence(report_data(bound)), bound)
    done = verify(tmp_path)
    assert done.exit_code == 0, done.exception
    assert f"runs image {machine.measurement.hex()}" in done.output
