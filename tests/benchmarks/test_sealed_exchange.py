"""The benchmark of sealed exchanges: both aggregators accept every site, and real evidence is verified."""

import pytest
import yaml

from fedcall.attestation.checks import EvidenceRefused
from fedcall.attestation.evidence import write_evidence
from fedcall.benchmarks.sealed_exchange import RealEvidence, as_text, benchmark_sealed_exchange
from real_evidence import SNP_TIME, snp_evidence, snp_policy, snp_report_data


def test_benchmark_sealed_exchange__each_site_goes_to_both(tmp_path):
    evidence = snp_evidence("oak_genoa_v5")
    write_evidence(tmp_path / "evidence", evidence)
    policy = snp_policy(evidence).model_dump(mode="json", exclude_none=True)
    (tmp_path / "policy.yaml").write_text(yaml.safe_dump(policy))
    real = RealEvidence(
        folder=tmp_path / "evidence",
        policy=tmp_path / "policy.yaml",
        report_data=snp_report_data(evidence).hex(),
        time=SNP_TIME,
    )
    found = benchmark_sealed_exchange(2, 2000, 1, real)
    assert (found.sites, found.parameters) == (2, 2000)
    assert found.exchange_ratio > 0
    assert found.verified.startswith("sev-snp, Genoa, SEV firmware 1.55.43")
    assert max(map(len, as_text(found).splitlines())) <= 80
    with pytest.raises(EvidenceRefused):
        benchmark_sealed_exchange(2, 2000, 1, real.model_copy(update={"report_data": "00" * 64}))
