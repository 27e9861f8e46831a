"""Providers ask a kernel's files for evidence; a folder that behaves like the kernel stands in for it."""

import os
import struct
import uuid
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fedcall.attestation.evidence import read_evidence, verify_evidence, write_evidence
from fedcall.attestation.providers import from_gramine, from_simulation, from_tsm, read_endorsements
from fedcall.errors import FedcallError
from real_evidence import INTEL_TIME, SNP_TIME, intel_evidence, intel_policy, snp_evidence, snp_policy, snp_report_data

DATA = bytes(range(64))


class FakeTsm:
    """configfs-tsm: a folder whose entries answer what was written to them, and count the writes."""

    def __init__(self, root: Path, provider: str, report: bytes, table: bytes = b"", disturbed: int = 0) -> None:
        self.root, self.provider, self.report, self.table, self.disturbed = root, provider, report, table, disturbed
        self.requests: list[bytes] = []
        self.real_mkdir, self.real_rmdir, self.real_write = Path.mkdir, Path.rmdir, Path.write_bytes

    def install(self, patch: pytest.MonkeyPatch) -> None:
        fake = self

        def mkdir(path: Path, *args: object, **options: object) -> None:
            fake.real_mkdir(path, *args, **options)  # type: ignore[arg-type]
            if path.parent == fake.root:
                (path / "generation").write_text("0")
                (path / "provider").write_text(fake.provider + "\n")

        def write_bytes(path: Path, content: bytes) -> int:
            if path.parent.parent != fake.root or path.name != "inblob":
                return fake.real_write(path, content)
            if len(content) > 64:
                raise OSError(22, os.strerror(22))
            fake.requests.append(content)
            fake.real_write(path.parent / "outblob", fake.report)
            fake.real_write(path.parent / "auxblob", fake.table)
            generation = path.parent / "generation"
            step = 1
            if fake.disturbed:
                fake.disturbed, step = fake.disturbed - 1, 2
            generation.write_text(str(int(generation.read_text()) + step))
            return len(content)

        def rmdir(path: Path) -> None:
            if path.parent == fake.root:  # configfs removes an entry with its attributes
                for file in path.iterdir():
                    file.unlink()
            fake.real_rmdir(path)

        patch.setattr(Path, "mkdir", mkdir)
        patch.setattr(Path, "write_bytes", write_bytes)
        patch.setattr(Path, "rmdir", rmdir)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "tsm").mkdir()
    return tmp_path / "tsm"


def table_of(parts: dict[str, bytes], *, little: bool = False) -> bytes:
    guids = {
        "ark": "c0b406a4-a803-4952-9743-3fb6014cd0ae",
        "ask": "4ab7b379-bbac-4fe4-a02f-05aef327c782",
        "vcek": "63da758d-e664-4564-adc5-f4b93be8accd",
        "crl": "92f81bc3-5811-4d3d-97ff-d19f88dc67ea",
    }
    head, body = b"", b""
    start = 24 * (len(parts) + 1)
    for name, content in parts.items():
        guid = uuid.UUID(guids[name])
        head += (guid.bytes_le if little else guid.bytes) + struct.pack("<II", start + len(body), len(content))
        body += content
    return head + bytes(24) + body


def test_from_tsm__a_report_with_endorsements_of_ours(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = snp_evidence("oak_genoa_v5")
    fake = FakeTsm(root, "sev_guest", real.files["report.bin"])
    fake.install(monkeypatch)
    given = {name: content for name, content in real.files.items() if name != "report.bin"}
    evidence = from_tsm(DATA, given, root)
    assert fake.requests == [DATA]
    assert evidence == real
    assert list(root.iterdir()) == [], "an entry left behind"
    verify_evidence(evidence, snp_policy(evidence), snp_report_data(evidence), SNP_TIME)


@pytest.mark.parametrize("little", [False, True])
def test_from_tsm__the_host_hands_over_certificates(root: Path, monkeypatch: pytest.MonkeyPatch, little: bool) -> None:
    real = snp_evidence("oak_genoa_v5")
    ask, ark = (
        part + b"-----END CERTIFICATE-----\n"
        for part in real.files["chain.pem"].split(b"-----END CERTIFICATE-----\n")[:2]
    )
    parts = {"vcek": real.files["key.der"], "ask": ask, "ark": ark, "crl": real.files["revoked.crl"]}
    FakeTsm(root, "sev_guest", real.files["report.bin"], table_of(parts, little=little)).install(monkeypatch)
    assert from_tsm(DATA, {}, root) == real


def test_from_tsm__another_program_in_between(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = snp_evidence("oak_genoa_v5")
    given = {name: content for name, content in real.files.items() if name != "report.bin"}
    fake = FakeTsm(root, "sev_guest", real.files["report.bin"], disturbed=2)
    fake.install(monkeypatch)
    assert from_tsm(DATA, given, root) == real
    assert len(fake.requests) == 3
    fake.disturbed = 99
    with pytest.raises(FedcallError, match="again and again"):
        from_tsm(DATA, given, root)


def test_from_tsm__a_trust_domain(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = intel_evidence("tdx_quote")
    FakeTsm(root, "tdx_guest", real.files["quote.bin"]).install(monkeypatch)
    evidence = from_tsm(DATA, {"collateral.json": real.files["collateral.json"]}, root)
    assert evidence == real


def test_from_tsm__nothing_there_nothing_known_nothing_given(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FedcallError, match=r"needs Linux 6\.7"):
        from_tsm(DATA, {}, root / "nowhere")
    with pytest.raises(FedcallError, match="no report"):  # a folder that is no configfs: nothing appears in an entry
        from_tsm(DATA, {}, root)
    real = snp_evidence("oak_genoa_v5")
    FakeTsm(root, "arm_cca_guest", real.files["report.bin"]).install(monkeypatch)
    with pytest.raises(FedcallError, match="arm_cca_guest"):
        from_tsm(DATA, {}, root)
    FakeTsm(root, "sev_guest", real.files["report.bin"]).install(monkeypatch)
    with pytest.raises(FedcallError, match=r"no key\.der and no chain\.pem"):
        from_tsm(DATA, {}, root)
    with pytest.raises(ValueError, match="64 bytes"):
        from_tsm(b"short", {}, root)


def test_from_gramine(tmp_path: Path) -> None:
    folder = tmp_path / "attestation"
    folder.mkdir()
    (folder / "attestation_type").write_text("dcap\n")
    real = intel_evidence("sgx_quote")
    (folder / "quote").write_bytes(real.files["quote.bin"])
    evidence = from_gramine(DATA, {"collateral.json": real.files["collateral.json"]}, folder)
    assert (folder / "user_report_data").read_bytes() == DATA
    assert evidence == real
    verify_evidence(evidence, intel_policy(evidence), read_back(evidence.files["quote.bin"]), INTEL_TIME)
    (folder / "attestation_type").write_text("none\n")
    with pytest.raises(FedcallError, match="'dcap' is needed"):
        from_gramine(DATA, {}, folder)
    with pytest.raises(FedcallError, match="no quote"):
        from_gramine(DATA, {}, tmp_path / "nowhere")


def read_back(quote: bytes) -> bytes:
    return quote[48 + 320 : 48 + 384]


def test_write_evidence__comes_back(tmp_path: Path) -> None:
    for evidence in (snp_evidence("oak_turin_v5"), intel_evidence("tdx_quote")):
        write_evidence(tmp_path / evidence.platform, evidence)
        assert read_evidence(tmp_path / evidence.platform) == evidence
    assert read_endorsements(tmp_path / "tdx") == {
        "collateral.json": intel_evidence("tdx_quote").files["collateral.json"]
    }
    with pytest.raises(FedcallError, match="holds none"):
        read_endorsements(tmp_path)


def test_from_simulation__carries_what_it_is_bound_to() -> None:
    evidence = from_simulation(DATA, Ed25519PrivateKey.generate(), bytes(48))
    assert evidence.platform == "simulated"
    assert DATA.hex().encode() in evidence.files["report.bin"]
