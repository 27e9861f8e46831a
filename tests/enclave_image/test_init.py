"""The image's first program: what it is told, and by whom."""

import json

import pytest

from fedcall.enclave_image.init import LENT, Unfit, command, read_kind, read_machine

TOLD = {"address": "192.0.2.7/24", "gateway": "192.0.2.1", "port": 8443, "names": ["fedcall.example.org"]}


def test_read_kind__is_measured_and_named_once():
    assert read_kind("console=ttyS0 fedcall.enclave=sev-snp\n") == "sev-snp"
    for line in ("", "fedcall.enclave=", "fedcall.enclave=sev-snp fedcall.enclave=simulated", "fedcall.enclave=tdx"):
        with pytest.raises(Unfit, match="the command line names"):
            read_kind(line)


def test_command__the_host_decides_on_address_and_names_alone(tmp_path):
    path = tmp_path / "machine.json"
    path.write_text(json.dumps({**TOLD, "enclave": "simulated:/lent/machine"}))
    words = command("sev-snp", read_machine(path))
    assert words[words.index("--enclave") + 1] == "sev-snp"
    assert words[words.index("--listen") + 1] == "0.0.0.0:8443"
    assert words[words.index("--state") + 1] == str(LENT / "state")
    assert [words[at + 1] for at, word in enumerate(words) if word == "--name"] == ["192.0.2.7", "fedcall.example.org"]


@pytest.mark.parametrize(
    "change",
    [
        {"address": "192.0.2.7"},
        {"address": "192.0.2.7/99"},
        {"gateway": "nowhere"},
        {"port": 0},
        {"port": "http"},
        {"names": []},
        {"names": ["--keys"]},
        {"names": "abc def"},
        {"address": None},
    ],
)
def test_read_machine__what_is_written_otherwise_stops_it(tmp_path, change):
    path = tmp_path / "machine.json"
    path.write_text(json.dumps({**TOLD, **change}))
    with pytest.raises(Unfit, match=r"machine\.json"):
        read_machine(path)


def test_read_machine__not_there(tmp_path):
    with pytest.raises(Unfit, match="FileNotFoundError"):
        read_machine(tmp_path / "machine.json")
