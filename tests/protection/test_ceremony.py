"""The holders' ceremony: resumable, verified, and nobody chooses a share after the others'."""

import hashlib
import os
import shutil
import sys

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from crashes import run_and_kill
from fedcall.cli.encryption import register
from fedcall.documents import read_unverified, sign
from fedcall.errors import FedcallError
from fedcall.keys import read_signing_key
from fedcall.protection import bfv, ceremony
from fedcall.protection.ceremony import KeyCommitment, KeyShare, check_took_part, commit, join, reveal
from fedcall.protection.helper_keys import create_helper_keys

pytestmark = pytest.mark.skipif(bfv.find_interpreter() is None, reason=bfv.HOW_TO_INSTALL)
NAMES = ("ethics", "notary")


@pytest.fixture
def place(tmp_path):
    for name in NAMES:
        create_helper_keys(tmp_path / name, name)
    return tmp_path


def files(place, names=NAMES):
    return [place / name / "helper.json" for name in names]


def test_join__the_sum_of_shares_that_were_committed_to(place):
    exchange = place / "exchange"
    commit(place / "ethics", "pilot", exchange)
    with pytest.raises(FedcallError, match=r"notary\.commitment\.json: not there yet"):
        reveal(place / "ethics", "pilot", exchange, files(place))
    digests = [commit(place / name, "pilot", exchange) for name in NAMES]
    assert [commit(place / name, "pilot", exchange) for name in NAMES] == digests  # repeated, the same
    reveal(place / "ethics", "pilot", exchange, files(place))
    with pytest.raises(FedcallError, match="not there yet"):
        join("pilot", exchange, files(place))
    reveal(place / "notary", "pilot", exchange, files(place))
    key = join("pilot", exchange, files(place)[::-1])
    for name in NAMES:
        check_took_part(place / name, "pilot", exchange, files(place), key)
    rogue = bfv.joint_key("ceremony pilot", [(place / "notary/encryption-pilot.share").read_bytes()])
    with pytest.raises(FedcallError, match="did not take part"):
        check_took_part(place / "ethics", "pilot", exchange, files(place), rogue)


def test_join__a_share_chosen_after_the_others_and_a_strangers_signature_are_refused(place):
    exchange = place / "exchange"
    for name in NAMES:
        commit(place / name, "pilot", exchange)
    for name in NAMES:
        reveal(place / name, "pilot", exchange, files(place))
    share = exchange / "notary.share"
    good = share.read_bytes()
    share.write_bytes(bfv.make_share("ceremony pilot")[1])
    with pytest.raises(FedcallError, match="another share than 'notary' committed to"):
        join("pilot", exchange, files(place))
    share.write_bytes(good)
    statement = exchange / "notary.share.json"
    signed = statement.read_bytes()
    found = read_unverified(signed, KeyShare)[0]
    other = found.model_copy(update={"commitments": ("0" * 64, *found.commitments[1:])})
    statement.write_bytes(sign(other, read_signing_key(place / "notary")))
    with pytest.raises(FedcallError, match="other commitments"):
        join("pilot", exchange, files(place))
    statement.write_bytes(sign(found, read_signing_key(place / "ethics")))
    with pytest.raises(FedcallError, match=r"notary\.share\.json"):
        join("pilot", exchange, files(place))
    with pytest.raises(FedcallError, match="two or three"):
        join("pilot", exchange, files(place)[:1])
    # A new commitment of a holder who has seen the others' shares: nobody shows the own share for it.
    for path in (place / "notary").glob("encryption-pilot.*"):
        path.unlink()
    commit(place / "notary", "pilot", exchange)
    with pytest.raises(FedcallError, match="other commitments than those"):
        reveal(place / "ethics", "pilot", exchange, files(place))


@pytest.mark.skipif(sys.platform != "linux", reason="forks")
def test_commit_and_reveal__kill_9_at_every_moment_commits_to_one_share_whose_secret_is_there(place, monkeypatch):
    size = bfv.parameters().polynomial_bytes(1)

    def drawn(_label: str) -> tuple[bytes, bytes]:
        secret = os.urandom(size)  # another one each time, as OpenFHE's are
        return secret, secret[::-1]

    monkeypatch.setattr(ceremony, "make_share", drawn)
    commit(place / "notary", "pilot", place / "exchange")
    kills = 0
    while True:
        folder = place / str(kills)
        shutil.copytree(place / "ethics", folder / "ethics")
        shutil.copytree(place / "exchange", folder / "exchange")

        def take_part(keys=folder / "ethics", exchange=folder / "exchange"):
            commit(keys, "pilot", exchange)
            reveal(keys, "pilot", exchange, files(place))

        killed = run_and_kill(take_part, kills + 1)
        told = [path.read_bytes() for path in folder.glob("exchange/ethics.*") if not path.name.startswith(".")]
        take_part()
        after = {path.name: path.read_bytes() for path in folder.glob("exchange/ethics.*")}
        assert all(content in after.values() for content in told), kills  # what was shown is never taken back
        commitment = read_unverified(after["ethics.commitment.json"], KeyCommitment)[0]
        share, secret = after["ethics.share"], (folder / "ethics/encryption-pilot.secret").read_bytes()
        assert hashlib.sha256(share).hexdigest() == commitment.share, kills
        assert share == secret[::-1], kills
        if not killed:
            break
        kills += 1
    assert kills > 20


def test_encryption_commands__from_a_ceremony_to_an_opened_sum(place):
    app = typer.Typer()
    register(app)

    def run(*command: object) -> str:
        ran = CliRunner().invoke(app, ["encryption", *map(str, command)], catch_exceptions=False)
        assert ran.exit_code == 0, ran.output
        return ran.output

    assert "HEStd_128_quantum" in run("parameters")
    common = ("--ceremony", "pilot", "--exchange", place / "exchange")
    everybody = [option for path in files(place) for option in ("--holder", path)]
    for name in NAMES:
        run("keygen", "--keys", place / name, *common)
    for name in NAMES:
        run("reveal", "--keys", place / name, *common, *everybody)
    for name in NAMES:
        run("join", *common, *everybody, "--keys", place / name, "--key", place / "pilot.key")
    for number in range(3):
        np.save(place / f"{number}.npy", np.arange(5) - 10 * number)
        own = ("--values", place / f"{number}.npy", "--output", place / f"{number}.bfv")
        run("encrypt", "--key", place / "pilot.key", *own)
    run("add", *(place / f"{number}.bfv" for number in range(3)), "--output", place / "sum.bfv")
    for name in NAMES:
        leads = ("--lead",) if name == NAMES[0] else ()
        own = ("--keys", place / name, "--ceremony", "pilot", "--output", place / f"{name}.partial")
        run("partial", "--sum", place / "sum.bfv", *own, *leads)
    # The noise in it is fresh each time, and a second one of the same sum would halve what hides the key.
    run("partial", "--sum", place / "sum.bfv", *own[:-1], place / "again.partial")
    partials = [place / f"{name}.partial" for name in NAMES]
    assert (place / "again.partial").read_bytes() == partials[-1].read_bytes()
    vectors = [option for number in range(3) for option in ("--of", place / f"{number}.npy")]
    opening = ("fuse", *partials, "--values", 5, "--sites", 3, "--output", place / "sum.npy")
    run("known", "--label", "pilot-1", "--count", 5, "--output", place / "known.npy")
    with pytest.raises(FedcallError, match="is not the sum of these vectors"):
        run(*opening, *vectors[:-1], place / "known.npy")
    assert not (place / "sum.npy").exists()
    assert "bit for bit the sum of the 3 vectors" in run(*opening, *vectors)
    assert np.load(place / "sum.npy").tolist() == [-30, -27, -24, -21, -18]
