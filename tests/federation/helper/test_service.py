"""A masked study over Flower: sites, an aggregator and two helpers in processes of their own; they are killed."""

import json
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from fedcall.cli.helper import register
from fedcall.errors import FedcallError
from fedcall.federation.aggregator import rehearsal
from fedcall.federation.aggregator.aggregation import apply_update
from fedcall.federation.aggregator.rehearsal import Rehearsal, ensure_aggregator
from fedcall.federation.aggregator.service import is_held
from fedcall.federation.helper.service import holding, is_serving
from fedcall.federation.site.visits import Place, Visitor, fetch_global, upload_update
from fedcall.study.sums import SumLayout, mean_update
from fedcall.weights import read_weights, weights_digest
from masked_consortium import SITES, make_masked_consortium
from misbehaving_proxy import Mischief, misbehaving_proxy
from service import HelperProcess, served


def wait_for(what, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end
        time.sleep(0.1)


def test_serve__a_masked_study_gives_the_model_of_addition_in_the_clear_whoever_is_killed(tmp_path):
    consortium = make_masked_consortium(tmp_path, rounds=2, helpers=("notary", "ethics"))
    study = consortium.study
    sites = [site.name for site in study.sites]
    expected = read_weights(consortium.initial).tensors
    state = consortium.state / "rounds"
    with served(consortium) as service, ThreadPoolExecutor(3) as pool:
        models = dict(zip(sites, pool.map(lambda site: service.fetch(service.visitor(site), 1), sites), strict=True))
        receipts = list(pool.map(lambda site: service.upload(service.visitor(site), 1, models[site]), sites))
        assert {receipt.status for receipt in receipts} == {"accepted"}
        # Nobody helps yet: the round is ordered and waits.
        log = consortium.state / "admission.jsonl"
        wait_for(lambda: b'"kind":"ordered"' in log.read_bytes())
        helper = HelperProcess(service)
        wait_for(lambda: (state / "1" / "masks" / "notary.json").exists())
        helper.kill()
        answers = (consortium.folder / "helpers" / "notary" / "answers.jsonl").read_bytes()
        assert len(answers.splitlines()) == 1
        assert not (state / "2" / "global.safetensors").exists(), "one helper of two opens nothing"
    with served(consortium) as service:  # the aggregator starts again, then the helpers
        helpers = [HelperProcess(service, name) for name in consortium.helpers]
        with ThreadPoolExecutor(3) as pool:
            models = list(pool.map(lambda site: service.fetch(service.visitor(site), 2), sites))
            list(pool.map(lambda site, model: service.upload(service.visitor(site), 2, model), sites, models))
        final = read_weights(service.fetch(service.visitor("north"), 3))
        assert [helper.process.wait(120) for helper in helpers] == [0, 0]  # the study is done
        assert all("the study is done" in helper.log.read_text() for helper in helpers)
    for number in (1, 2):
        base = read_weights(state / str(number) / "global.safetensors")
        assert all(np.array_equal(base.tensors[name], expected[name]) for name in expected)
        total = consortium.total(number, base)
        layout = SumLayout.of({name: tensor.shape for name, tensor in total.items()})
        clear = mean_update(study, layout, layout.flatten(total), sites)
        expected = apply_update(base.tensors, clear, study.aggregation).tensors
    assert all(np.array_equal(final.tensors[name], expected[name]) for name in expected)


def test_serve__messages_lost_on_the_way_lose_no_round_and_open_it_once(tmp_path):
    """The helper is cut off in the middle of what it sends; its order comes again, and its answer is the same."""
    consortium = make_masked_consortium(tmp_path, rounds=1)
    base = read_weights(consortium.initial)
    mischief = Mischief(cut_after_bytes=[2500, 4000, 6000, 8000, 12000], stall_after_bytes=[0, 0, 0, 0, 0, 1000])
    with (
        served(consortium) as service,
        misbehaving_proxy(service.endpoint.address, mischief) as address,
        ThreadPoolExecutor(3) as pool,
    ):
        helper = HelperProcess(service, address=address)
        visitors = [service.visitor(site.name) for site in consortium.study.sites]
        models = list(pool.map(lambda visitor: service.fetch(visitor, 1), visitors))
        list(pool.map(lambda visitor, model: service.upload(visitor, 1, model), visitors, models))
        final = read_weights(service.fetch(visitors[0], 2))
        helper.kill()
    assert mischief.cuts > 0
    assert len((consortium.folder / "helpers" / "notary" / "answers.jsonl").read_bytes().splitlines()) == 1
    total = consortium.total(1, base)
    layout = SumLayout.of({name: tensor.shape for name, tensor in total.items()})
    clear = mean_update(consortium.study, layout, layout.flatten(total), [visitor.site for visitor in visitors])
    expected = apply_update(base.tensors, clear, consortium.study.aggregation).tensors
    assert final.digest == weights_digest({**base.tensors, **expected})


def test_helper_commands__keygen_status_verify(tmp_path):
    app = typer.Typer()
    register(app)
    consortium = make_masked_consortium(tmp_path, rounds=2)
    state = consortium.open_state()
    consortium.play_round(state, 1)
    run = CliRunner().invoke
    made = run(app, ["helper", "keygen", "--name", "notary", "--output", str(consortium.keys("notary"))])
    assert made.exit_code == 0
    assert study_key(consortium) in made.output
    own = [
        *("--study", str(consortium.study_path), "--keys", str(consortium.keys("notary"))),
        *("--state", str(consortium.folder / "helpers" / "notary")),
    ]
    shown = run(app, ["helper", "status", *own, "--json"])
    assert [answer["round"] for answer in json.loads(shown.output)["answers"]] == [1]
    assert "1 lines" in run(app, ["helper", "verify", *own]).output


def study_key(consortium) -> str:
    return consortium.study.protection.helpers[0].hpke_key


def test_holding__two_helpers_of_one_folder_are_refused(tmp_path):
    assert not is_serving(tmp_path)
    with holding(tmp_path):
        assert is_serving(tmp_path)
        with pytest.raises(FedcallError, match="another helper"), holding(tmp_path):
            pass


def test_ensure_aggregator__a_rehearsal_starts_its_helper_which_ends_with_the_study(tmp_path, monkeypatch):
    consortium = make_masked_consortium(tmp_path, rounds=1)
    shutil.copytree(consortium.keys("notary"), tmp_path / "private" / "notary" / "keys")
    plan = Rehearsal(
        consortium.study_path,
        consortium.state,
        consortium.keys("coordinator"),
        consortium.initial,
        tmp_path / "private",
    )

    def locate() -> Place:
        endpoint = ensure_aggregator(plan)
        return Place(endpoint.address, plan.state / endpoint.ca)

    visitors = [Visitor(consortium.study, site, consortium.keys(site), locate, 120) for site in SITES]
    for visitor in visitors:
        model, receipt = tmp_path / f"{visitor.site}.global", tmp_path / f"{visitor.site}.receipt"
        fetch_global(visitor, 1, model)
        update, claim = consortium.write_answer(visitor.site, 1, model, tmp_path)
        assert upload_update(visitor, 1, update, claim, receipt).status == "accepted"
    for visitor in visitors:
        assert fetch_global(visitor, 2, tmp_path / f"{visitor.site}.final").accepted == tuple(sorted(SITES))
    wait_for(lambda: not is_serving(tmp_path / "private" / "notary" / "answers"))
    # Whoever comes later, for the log, say, starts no helper again that would find nothing to do.
    started: list[Path] = []
    monkeypatch.setattr(rehearsal, "_detached", lambda command, log: started.append(log))
    wait_for((plan.state / "helper-notary.done").exists)
    rehearsal.start_helpers(plan)
    assert not started
    (plan.state / "helper-notary.done").unlink()  # as who begins anew, and throws the aggregator's state away
    rehearsal.start_helpers(plan)
    assert [log.name for log in started] == ["helper-notary.log"]
    assert "the study is done" in (consortium.state / "helper-notary.log").read_text()
    wait_for(lambda: not is_held(consortium.state))  # nothing of a rehearsal stays
