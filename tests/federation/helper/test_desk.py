"""A helper's desk: the same order gives the same bytes, its log survives and is never older than its answers."""

import shutil

import pytest

from fedcall.documents import verify
from fedcall.errors import FedcallError
from fedcall.federation.aggregator.operation import close_study
from fedcall.federation.helper.desk import HelperDesk
from fedcall.federation.helper.status import helper_status, status_lines, verify_log
from fedcall.protection.helper_keys import create_helper_keys
from fedcall.study.extension import Extension, extend_study
from fedcall.study.sum_orders import MaskSum
from masked_consortium import make_masked_consortium


@pytest.fixture
def consortium(tmp_path):
    return make_masked_consortium(tmp_path, rounds=3)


def ordered(consortium, number=1):
    state = consortium.open_state()
    consortium.upload_all(state, number)
    state.close_round_if_due()
    return state, state.sums.pending("notary")


def test_answer__same_order_same_bytes_from_a_helper_started_again(consortium):
    _, pending = ordered(consortium)
    first = consortium.desk("notary").answer(*pending, 1)
    again = consortium.desk("notary").answer(*pending, 99)
    assert first == again
    statement = verify(first.statement, MaskSum, consortium.study.protection.helpers[0].public_key)
    desk = consortium.desk("notary")
    assert (statement.entries, statement.log_head) == (1, desk.log.head)


def test_answer__a_line_cut_short_by_a_kill_never_counted(consortium):
    _, pending = ordered(consortium)
    desk = consortium.desk("notary")
    desk.answer(*pending, 1)
    path = desk.log.path
    whole = path.read_bytes()
    for length in (0, 1, len(whole) // 2, len(whole) - 1):
        next(consortium.keys("notary").glob("answers-*.head")).unlink()  # it is written after the line
        path.write_bytes(whole[:length])
        assert consortium.desk("notary").answer(*pending, 1).masks
        assert path.read_bytes() == whole


def test_answer__an_edited_log_is_refused(consortium):
    _, pending = ordered(consortium)
    path = consortium.desk("notary").log.path
    consortium.desk("notary").answer(*pending, 1)
    path.write_bytes(path.read_bytes().replace(b'"round":1', b'"round":2'))
    with pytest.raises(FedcallError, match="does not continue the chain"):
        consortium.desk("notary")


def test_answer__a_log_rolled_back_is_refused_by_the_key_folder_and_by_the_newest_answer(consortium):
    state, _ = ordered(consortium)
    consortium.ask_helpers(state)
    state.close_round_if_due()
    folder, memory = consortium.folder / "helpers" / "notary", consortium.keys("notary")
    shutil.copytree(folder, consortium.folder / "old")
    head = next(memory.glob("answers-*.head"))
    old_head = head.read_bytes()
    consortium.play_round(state, 2)
    assert len(consortium.desk("notary").log.lines) == 2
    shutil.rmtree(folder)
    with pytest.raises(FedcallError, match="older than the answers"):  # no log at all
        consortium.desk("notary")
    shutil.copytree(consortium.folder / "old", folder)
    with pytest.raises(FedcallError, match="older than the answers"):
        consortium.desk("notary")
    head.write_bytes(old_head)  # keys and log were put back together
    consortium.upload_all(state, 3)
    state.close_round_if_due()
    with pytest.raises(FedcallError, match="lacks the answer for round 2"):
        consortium.desk("notary").answer(*state.sums.pending("notary"), 1)


def test_answer__log_and_keys_go_on_on_another_machine(consortium, tmp_path):
    """As docs/running-a-study.md has it: both folders move; keys without the log and old copies are refused."""
    state, _ = ordered(consortium)
    keys, folder = consortium.keys("notary"), consortium.folder / "helpers" / "notary"
    shutil.copytree(keys, tmp_path / "backup of keys")  # of before the first answer
    first = consortium.desk("notary").answer(*state.sums.pending("notary"), 1)
    again = state.sums.pending("notary")
    consortium.ask_helpers(state)
    assert state.close_round_if_due()
    consortium.upload_all(state, 2)
    state.close_round_if_due()
    moved_keys, moved = tmp_path / "new" / "keys", tmp_path / "new" / "answers"
    shutil.copytree(keys, moved_keys)
    with pytest.raises(FedcallError, match="older than the answers"):  # the log was left behind
        HelperDesk(moved, moved_keys, consortium.study)
    with pytest.raises(FedcallError, match="lacks the answer for round 1"):  # and so was the newest key folder
        HelperDesk(moved, tmp_path / "backup of keys", consortium.study).answer(*state.sums.pending("notary"), 1)
    shutil.copytree(folder, moved, dirs_exist_ok=True)
    assert "the 1 answers" in verify_log(consortium.study, moved_keys, moved, consortium.state / "admission.jsonl")
    desk = HelperDesk(moved, moved_keys, consortium.study)
    assert desk.answer(*again, 9) == first, "what was answered on the old machine is answered with the same bytes"
    given = desk.answer(*state.sums.pending("notary"), 2)
    state.sums.take("notary", given.statement, given.masks)
    assert state.close_round_if_due()
    consortium.upload_all(state, 3)
    state.close_round_if_due()
    pending = state.sums.pending("notary")
    with pytest.raises(FedcallError, match="lacks the answer for round 2"):  # the old machine is started by mistake
        consortium.desk("notary").answer(*pending, 3)


def test_desk__whose_log_is_lost_helps_in_a_study_that_goes_on(consortium, tmp_path):
    """The lost log's study is closed after the rounds it has; the next one begins with its model and an empty log."""
    state, _ = ordered(consortium)
    consortium.ask_helpers(state)
    assert state.close_round_if_due()
    consortium.upload_all(state, 2)
    state.close_round_if_due()
    shutil.rmtree(consortium.folder / "helpers" / "notary")
    with pytest.raises(FedcallError, match="older than the answers"):
        consortium.desk("notary")
    assert close_study(consortium.state, "the helper's log is lost", abandon=True) == 1
    state.log.catch_up()
    assert state.is_done
    final = state.model_path(2)
    study, _ = extend_study(Extension(consortium.study_path, final, "on", 1))
    assert study.protection == consortium.study.protection
    assert HelperDesk(tmp_path / "fresh", consortium.keys("notary"), study).log.lines == []
    create_helper_keys(tmp_path / "registry", "registry")
    other, _ = extend_study(
        Extension(consortium.study_path, final, "on", 1, helpers=[tmp_path / "registry/helper.json"])
    )
    assert [helper.name for helper in other.protection.helpers] == ["registry"]


def test_answer__a_second_list_for_a_round_of_a_rolled_back_aggregator_is_refused(tmp_path):
    sites = {"east": 20, "north": 40, "south": 20, "west": 20}
    closing = {"minimum_sites": 3, "deadline_minutes": 1e-6}
    consortium = make_masked_consortium(tmp_path, patients=sites, aggregation=closing)
    state = consortium.open_state()
    consortium.upload_all(state, 1, ["east", "north"])
    shutil.copytree(consortium.state, tmp_path / "copy")
    consortium.upload_all(state, 1, ["south"])
    state.close_round_if_due()
    consortium.ask_helpers(state)
    assert state.close_round_if_due()
    rolled_back = consortium.open_state(tmp_path / "copy")
    consortium.upload_all(rolled_back, 1, ["south", "west"])
    rolled_back.close_round_if_due()
    with pytest.raises(FedcallError, match="for another list"):
        consortium.ask_helpers(rolled_back)
    assert not rolled_back.close_round_if_due()
    # The same list again is the same order, and gets the same answer: nothing is lost by a disk put back.
    shutil.rmtree(tmp_path / "copy")
    shutil.copytree(consortium.state, tmp_path / "copy", ignore=shutil.ignore_patterns("masks", "2"))
    log = tmp_path / "copy" / "admission.jsonl"
    log.write_bytes(b"".join(line for line in log.read_bytes().splitlines(keepends=True) if b'"round":2' not in line))
    same = consortium.open_state(tmp_path / "copy")
    consortium.ask_helpers(same)
    assert same.close_round_if_due()
    assert same.log.openings[2].base == state.log.openings[2].base


def test_desk__keys_that_are_no_helpers_are_refused(consortium, tmp_path):
    with pytest.raises(FedcallError, match="no such public file"):
        HelperDesk(tmp_path / "state", consortium.keys("north"), consortium.study)
    other = make_masked_consortium(tmp_path / "other")
    with pytest.raises(FedcallError, match="no helper of study"):
        HelperDesk(tmp_path / "state", other.keys("notary"), consortium.study)


def test_status_and_verify__say_what_was_opened_and_whether_the_log_is_whole(consortium):
    state, _ = ordered(consortium)
    consortium.ask_helpers(state)
    state.close_round_if_due()
    keys, folder = consortium.keys("notary"), consortium.folder / "helpers" / "notary"
    found = helper_status(consortium.study, keys, folder)
    assert [answer["sites"] for answer in found["answers"]] == [["east", "north", "south"]]
    assert "round 1 of 3: opened for 3 sites (east, north, south)" in "\n".join(status_lines(found))
    sentence = verify_log(consortium.study, keys, folder, consortium.state / "admission.jsonl")
    assert "the 1 answers" in sentence
    next(keys.glob("answers-*.head")).unlink()
    (folder / "answers.jsonl").write_bytes(b"")
    with pytest.raises(FedcallError, match="lacks the answer for round 1"):
        verify_log(consortium.study, keys, folder, consortium.state / "admission.jsonl")
