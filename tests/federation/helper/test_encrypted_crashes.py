"""Key holders are killed at every durable operation, and fed with damaged ciphertexts: one partial decryption, ever."""

import hashlib
import os
import resource
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from safetensors.numpy import load

from crashes import run_and_kill
from encrypted_consortium import HOLDERS, make_encrypted_consortium, needs_openfhe
from fedcall.documents import read_unverified
from fedcall.errors import FedcallError
from fedcall.federation.aggregator.aggregation import apply_update
from fedcall.federation.helper.desk import HelperDesk
from fedcall.protection import bfv
from fedcall.protection.encrypting import read_ciphertexts
from fedcall.study.sum_orders import MaskSum
from fedcall.study.sums import SumLayout, mean_update
from fedcall.weights import read_weights, weights_digest
from service import HelperProcess, served

pytestmark = [needs_openfhe, pytest.mark.skipif(sys.platform != "linux", reason="forks")]
FUZZED = 2000


@pytest.fixture(scope="module")
def ordered(tmp_path_factory):
    """Return a consortium whose one round is ordered."""
    made = make_encrypted_consortium(tmp_path_factory.mktemp("ordered"), rounds=1)
    state = made.open_state()
    made.upload_all(state, 1)
    assert not state.close_round_if_due()
    return made


def test_answer__kill_9_at_every_moment_gives_one_partial_decryption_ever(ordered, tmp_path, monkeypatch):
    # What a holder would give differs each time it is made, as the noise that hides its key does.
    size = bfv.parameters().partial_bytes(1)
    monkeypatch.setattr(bfv, "partial", lambda *_: os.urandom(size))
    state = ordered.open_state()
    pending = state.sums.pending("notary")
    updates = {site.name: state.sums.listed("notary", site.name) for site in ordered.study.sites}
    kills = 0
    while True:
        folder = tmp_path / str(kills)
        for path in ordered.keys("notary").glob("answers-*.head"):
            path.unlink()

        def answer(folder=folder):
            desk = HelperDesk(folder, ordered.keys("notary"), ordered.study)
            return desk.answer(*pending, 1, updates.__getitem__)

        if not run_and_kill(answer, kills + 1):
            break
        kills += 1
        stored = [path.read_bytes() for path in folder.glob("partials/[!.]*.partial")]
        first = answer()
        assert answer() == first
        assert all(first.masks.endswith(content) for content in stored), kills
        statement = read_unverified(first.statement, MaskSum)[0]
        assert (statement.entries, statement.partial) == (1, hashlib.sha256(first.masks[-size:]).hexdigest())
    assert kills > 8


def test_serve__holders_and_aggregator_killed_the_model_is_that_of_addition_in_the_clear(tmp_path):
    consortium = make_encrypted_consortium(tmp_path, rounds=1)
    study, sites = consortium.study, [site.name for site in consortium.study.sites]
    folder = consortium.state / "rounds" / "1"
    with served(consortium) as service, ThreadPoolExecutor(3) as pool:
        models = list(pool.map(lambda site: service.fetch(service.visitor(site), 1), sites))
        list(pool.map(lambda site, model: service.upload(service.visitor(site), 1, model), sites, models))
        helper = HelperProcess(service)
        _wait_for(lambda: list((consortium.folder / "helpers" / "notary").glob("partials/*")))
        helper.kill()  # before or after the line of its log, or what it sends
        given = next((consortium.folder / "helpers" / "notary" / "partials").iterdir()).read_bytes()
        service.process.kill()
        service.process.wait()
    with served(consortium) as service:
        helpers = [HelperProcess(service, name) for name in HOLDERS]
        final = read_weights(service.fetch(service.visitor("north"), 2))
        assert [helper.process.wait(300) for helper in helpers] == [0, 0]
    assert (folder / "masks" / "notary.partial").read_bytes() == given
    base = read_weights(folder / "global.safetensors")
    total = consortium.total(1, base)
    layout = SumLayout.of({name: tensor.shape for name, tensor in total.items()})
    clear = mean_update(study, layout, layout.flatten(total), sites)
    expected = apply_update(base.tensors, clear, study.aggregation).tensors
    assert final.digest == weights_digest({**base.tensors, **expected})


def test_read_ciphertexts__damaged_files_are_refused_without_a_crash_and_in_bounded_memory(ordered):
    state = ordered.open_state()
    whole = state.sums.listed("notary", "north")
    values = sum(one.size for one in ordered.vector("north", 1, read_weights(ordered.initial)).values())
    signed, generator = weights_digest(load(whole)), np.random.default_rng(3)
    header = int.from_bytes(whole[:8], "little")
    assert read_ciphertexts(whole, signed, values)
    with pytest.raises(FedcallError, match="has at most"):  # before anything in it is read
        read_ciphertexts(whole + bytes(1 << 17), signed, values)
    before, refused = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, 0
    for number in range(FUZZED):
        content = bytearray(whole)
        kind = number % 5
        if kind == 0:
            content = content[: generator.integers(len(content))]
        elif kind == 1:
            content += generator.bytes(int(generator.integers(1, 1 << 17)))
        elif kind == 2:  # lengths, names, shapes and types that a header may claim
            for place in generator.integers(8 + header, size=2):
                content[place] = generator.integers(256)
        elif kind == 3:
            content[:8] = int(generator.integers(1 << 62)).to_bytes(8, "little")
        else:  # numbers at and beyond their modulus, under a digest that fits
            place = 8 + header + 8 * int(generator.integers((len(content) - 8 - header) // 8))
            content[place : place + 8] = int(generator.integers(1 << 60, 1 << 63)).to_bytes(8, "little")
        try:
            digest = weights_digest(load(bytes(content))) if kind == 4 else signed
            read_ciphertexts(bytes(content), digest, values)
        except FedcallError:
            refused += 1
    assert refused >= FUZZED - number // 50  # a changed byte of the metadata changes nothing
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert (after - before) * 1024 < 10 * len(whole)


def _wait_for(what, seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end
        time.sleep(0.05)
