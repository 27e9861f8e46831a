"""A study through folders of sealed messages that anything carries: slowly, twice, cut, shuffled, as they once were."""

import os
import random
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from consortium import Consortium, make_consortium
from fedcall.documents import sign
from fedcall.errors import FedcallError
from fedcall.federation.aggregator.aggregation import apply_update
from fedcall.federation.aggregator.drops import Drops
from fedcall.federation.aggregator.operation import close_study
from fedcall.federation.aggregator.state import StudyState
from fedcall.federation.drop_folder import DropManifest, NotThere, Route, requests_folder, take
from fedcall.federation.site.visits import fetch_global, fetch_log, upload_update
from fedcall.keys import read_signing_key
from fedcall.study.log_reading import read_log
from fedcall.study.opening import RoundOpening
from fedcall.study.sums import SumLayout, mean_update
from fedcall.weights import read_weights, weights_digest
from masked_consortium import make_masked_consortium
from service import drop_visitor

SCHEDULES = int(os.environ.get("FEDCALL_DROP_SCHEDULES", "12"))
REQUEST_BYTES = 1_000_000


class Aggregator:
    """The aggregator's state and its side of the folder, without Flower."""

    def __init__(self, consortium: Consortium, folder: Path) -> None:
        self.consortium, self.folder = consortium, folder
        folder.mkdir(exist_ok=True)
        self.start()

    def start(self) -> None:
        """Start, or start again after a kill: nothing is known but what lies on disk."""
        key = read_signing_key(self.consortium.keys("coordinator"))
        self.state = StudyState(self.consortium.state, self.consortium.study, key, self.consortium.initial)
        self.drops = Drops(self.state, [self.folder], key, REQUEST_BYTES)

    def look(self) -> None:
        self.drops._next_look = 0.0
        self.drops.look()
        self.state.close_round_if_due()


class Hospital:
    """A site that goes on as far as the answers it found let it."""

    def __init__(self, consortium: Consortium, name: str, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.consortium, self.name = consortium, name
        self.visitor = drop_visitor(consortium, name, folder, 0)
        self.number, self.model = 1, None
        self.final: str | None = None

    def go_on(self) -> None:
        """Go on until an answer is missing; what is wrong is raised."""
        while self.final is None:
            try:
                self._step()
            except FedcallError as error:
                if "nothing is lost" not in str(error):
                    raise
                return

    def _step(self) -> None:
        folder = self.consortium.folder
        model = folder / f"{self.name}.{self.number}.global.safetensors"
        if not model.exists():
            fetch_global(self.visitor, self.number, model)
        if self.number > self.consortium.study.rounds:
            self.final = read_weights(model).digest
            return
        update, claim = self.consortium.write_answer(self.name, self.number, model, folder)
        receipt = upload_update(self.visitor, self.number, update, claim, folder / f"{self.name}.{self.number}.receipt")
        assert receipt.status == "accepted", receipt.sentence
        self.number += 1


class Carrier:
    """Carries files between two folders as an adversary: in any order, twice, cut, or as they once were."""

    def __init__(self, generator: random.Random) -> None:
        self.generator = generator
        self.history: dict[Path, list[bytes]] = {}

    def carry(self, source: Path, target: Path, pattern: str) -> None:
        files = [path for path in source.glob(pattern) if path.is_file()]
        self.generator.shuffle(files)
        for path in files[: self.generator.randint(0, len(files))]:
            content = path.read_bytes()
            versions = self.history.setdefault(path, [])
            versions.append(content)
            kind = self.generator.random()
            if kind < 0.15:
                content = content[: self.generator.randint(0, len(content))]
            elif kind < 0.3:
                content = self.generator.choice(versions)
            elif kind < 0.35:
                content = self.generator.randbytes(self.generator.randint(0, 300))
            place = target / path.relative_to(source)
            place.parent.mkdir(parents=True, exist_ok=True)
            if kind > 0.95:
                place.unlink(missing_ok=True)
            else:
                place.write_bytes(content)


def mirror(source: Path, target: Path, pattern: str) -> None:
    for path in source.glob(pattern):
        if path.is_file():
            (target / path.relative_to(source)).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target / path.relative_to(source))


@pytest.fixture(scope="module")
def expected(tmp_path_factory) -> tuple[Consortium, str, int]:
    """A study whose sites share the coordinator's folder: its final model and the number of lines of its log."""
    consortium = make_consortium(tmp_path_factory.mktemp("expected"))
    final, lines = finish(consortium, lambda *_: None, shared=True)
    return consortium, final, lines


def finish(consortium: Consortium, carry: Callable[[Path, Path], None], shared: bool = False) -> tuple[str, int]:
    """Let all take part until each has the final model; `carry` moves files between a site's folder and ours."""
    ours = consortium.folder / "ours"
    aggregator = Aggregator(consortium, ours)
    folders = {name: ours if shared else consortium.folder / f"at-{name}" for name in ("north", "south")}
    hospitals = [Hospital(consortium, name, folder) for name, folder in folders.items()]
    for turn in range(400):
        for hospital in hospitals:
            hospital.go_on()
            carry(folders[hospital.name], ours)
        if turn % 7 == 3:
            aggregator.start()
        aggregator.look()
        if all(hospital.final for hospital in hospitals):
            break
    finals = {hospital.final for hospital in hospitals}
    assert None not in finals
    assert len(finals) == 1
    return finals.pop(), len(list(read_log(consortium.state / "admission.jsonl")))


@pytest.mark.parametrize("seed", range(SCHEDULES))
def test_drop__an_adversary_that_carries_changes_nothing(seed, expected, tmp_path):
    consortium = _copy(expected[0], tmp_path)
    carrier = Carrier(random.Random(seed))
    turns = iter(range(10**6))

    def carry(site: Path, ours: Path) -> None:
        name = site.name.removeprefix("at-")
        if next(turns) % 12 == 11:  # now and then everything arrives, as it does in the end
            mirror(site, ours, f"{name}.requests/**/*")
            mirror(ours, site, f"{name}.answers/**/*")
        else:
            carrier.carry(site, ours, f"{name}.requests/**/*")
            carrier.carry(ours, site, f"{name}.answers/**/*")

    assert finish(consortium, carry) == expected[1:], "the same final model, and nothing decided twice"


def test_drop__carried_by_rsync(expected, tmp_path):
    if shutil.which("rsync") is None:
        pytest.skip("needs rsync")
    consortium = _copy(expected[0], tmp_path)

    def carry(site: Path, ours: Path) -> None:
        name = site.name.removeprefix("at-")
        for way, source, target in (("requests", site, ours), ("answers", ours, site)):
            folder = source / f"{name}.{way}"
            if folder.is_dir():
                subprocess.run(["rsync", "-a", "--delete", folder, f"{target}/"], check=True)

    assert finish(consortium, carry) == expected[1:]


def test_drop__says_nothing_but_names_sizes_and_times(expected):
    consortium = expected[0]
    digest = consortium.study.digest.encode()
    model = read_weights(consortium.initial).tensors["head.weight"].tobytes()
    files = [path for path in (consortium.folder / "ours").glob("*/*/*") if path.is_file()]
    assert len(files) > 20
    for path in files:
        content = path.read_bytes()
        for secret in (digest, model, b"epsilon", b"accepted", b"ledger_head"):
            assert secret not in content, path


def test_drop__a_request_of_another_site_or_study_is_none(expected, tmp_path):
    """South cannot pass off what north sealed, nor can a message of one study be used in another."""
    consortium = expected[0]
    study, ours = consortium.study, consortium.folder / "ours"
    source = next(path for path in requests_folder(ours, "north").iterdir())
    folder = tmp_path / source.name
    shutil.copytree(source, folder)
    key = read_signing_key(consortium.keys("coordinator"))
    south = read_signing_key(consortium.keys("south"))
    own = Route(tmp_path, study.digest, "south", "coordinator", key, study.site("south").public_key)
    with pytest.raises(NotThere, match="signed by another key"):
        take(own, source.name, REQUEST_BYTES, 2)
    manifest = DropManifest.model_validate_json(_body(folder / "manifest.json"))
    (folder / "manifest.json").write_bytes(sign(manifest.model_copy(update={"sender": "south"}), south))
    with pytest.raises(NotThere, match="not sealed to this key and purpose"):
        take(own, source.name, REQUEST_BYTES, 2)
    shutil.copyfile(source / "manifest.json", folder / "manifest.json")
    north = study.site("north").public_key
    assert take(Route(tmp_path, study.digest, "north", "coordinator", key, north), source.name, REQUEST_BYTES, 2)
    with pytest.raises(NotThere, match="not sealed to this key and purpose"):
        take(Route(tmp_path, "0" * 64, "north", "coordinator", key, north), source.name, REQUEST_BYTES, 2)


def test_drop__links_and_junk_are_passed_over(expected, tmp_path):
    consortium = _copy(expected[0], tmp_path)
    aggregator = Aggregator(consortium, tmp_path / "ours")
    folder = requests_folder(tmp_path / "ours", "north")
    folder.mkdir()
    secret = tmp_path / "secret"
    secret.mkdir()
    (folder / ("a" * 32)).symlink_to(secret)
    (folder / ("b" * 32)).mkdir()
    (folder / ("b" * 32) / "manifest.json").symlink_to(consortium.study_path)
    (folder / ("c" * 32)).write_bytes(b"a file")
    (folder / ("d" * 32)).mkdir()
    os.mkfifo(folder / ("d" * 32) / "manifest.json")
    (folder / "not a message").mkdir()
    (folder / ("e" * 32)).mkdir()
    (folder / ("e" * 32) / "manifest.json").write_bytes(b"[" * 4000)
    (tmp_path / "ours" / "north.answers").mkdir()
    aggregator.look()
    hospital = Hospital(consortium, "north", tmp_path / "ours")
    hospital.go_on()
    (request,) = [path for path in folder.iterdir() if (path / "message").exists()]
    (tmp_path / "ours" / "north.answers" / request.name).symlink_to(secret)
    aggregator.look()
    assert not list(secret.iterdir()), "nothing is written through a link"
    hospital.go_on()
    assert hospital.number == 1
    (tmp_path / "ours" / "north.answers" / request.name).unlink()
    aggregator.look()
    hospital.go_on()
    aggregator.look()
    hospital.go_on()
    assert hospital.number == 2


def test_drop__too_large_is_not_read(expected, tmp_path, monkeypatch):
    monkeypatch.setattr("fedcall.federation.drop_folder._HEADER_BYTES", 200)
    consortium = _copy(expected[0], tmp_path)
    aggregator = Aggregator(consortium, tmp_path / "ours")
    aggregator.drops = Drops(aggregator.state, [tmp_path / "ours"], read_signing_key(consortium.keys("coordinator")), 0)
    hospital = Hospital(consortium, "north", tmp_path / "ours")
    for _ in range(4):
        hospital.go_on()
        aggregator.look()
    assert (tmp_path / "north.1.global.safetensors").exists(), "the model came"
    assert hospital.number == 1, "the update is too large"


def test_drop__a_log_asked_for_again_is_the_present_one(expected, tmp_path):
    consortium = _copy(expected[0], tmp_path)
    aggregator = Aggregator(consortium, tmp_path / "ours")
    hospitals = [Hospital(consortium, name, tmp_path / "ours") for name in ("north", "south")]
    lengths = []
    for _ in range(8):
        try:
            lengths.append(fetch_log(hospitals[0].visitor, tmp_path / "log.jsonl"))
        except FedcallError as error:
            if "nothing is lost" not in str(error):
                raise
        for hospital in hospitals:
            hospital.go_on()
        aggregator.look()
    assert lengths == sorted(lengths)
    assert lengths[-1] > lengths[0]


def test_drop__a_refusal_is_told_once_and_can_be_asked_again(expected, tmp_path, monkeypatch):
    consortium = _copy(expected[0], tmp_path)
    aggregator = Aggregator(consortium, tmp_path / "ours")
    hospital = Hospital(consortium, "north", tmp_path / "ours")

    def refuse(*_):
        raise FedcallError("not today")

    monkeypatch.setattr("fedcall.federation.aggregator.drops.respond", refuse)
    hospital.go_on()
    aggregator.look()
    with pytest.raises(FedcallError, match="refused by the aggregator: not today"):
        hospital.go_on()
    monkeypatch.undo()
    for _ in range(3):
        hospital.go_on()
        aggregator.look()
    assert hospital.number == 2


def _copy(consortium: Consortium, folder: Path) -> Consortium:
    """Return the same consortium, with the same keys and study, before its first round."""
    for name in ("keys", "study.json", "initial.safetensors"):
        source = consortium.folder / name
        (shutil.copytree if source.is_dir() else shutil.copy2)(source, folder / name)
    return Consortium(folder, consortium.study)


def _body(path: Path) -> bytes:
    import json

    return json.dumps(json.loads(path.read_bytes())["body"]).encode()


def test_drop__a_site_is_told_of_an_early_close(tmp_path):
    consortium = make_consortium(tmp_path, rounds=3)
    aggregator = Aggregator(consortium, tmp_path / "ours")
    hospitals = [Hospital(consortium, name, tmp_path / "ours") for name in ("north", "south")]
    while aggregator.state.log.open_round < 2:
        for hospital in hospitals:
            hospital.go_on()
        aggregator.look()
    close_study(consortium.state, "enough")
    aggregator.start()
    closing, model = tmp_path / "closing.json", tmp_path / "final.safetensors"
    with pytest.raises(FedcallError, match=r"closed study 'tiny' after round 1 \(enough\)"):
        ask_until_answered(aggregator, hospitals[0], 3, model, closing)
    assert ask_until_answered(aggregator, hospitals[0], 2, model, closing).closed == "enough"
    assert read_weights(model).digest == read_weights(aggregator.state.model_path(2)).digest


def ask_until_answered(
    aggregator: Aggregator, hospital: Hospital, number: int, model: Path, closing: Path
) -> RoundOpening:
    for _ in range(10):
        try:
            return fetch_global(hospital.visitor, number, model, closing)
        except FedcallError as error:
            if "nothing is lost" not in str(error):
                raise
        aggregator.look()
    raise AssertionError("no answer")


def test_drop__masked_updates_travel_as_others_do(tmp_path):
    """Folders in place of a network, and two helpers: the opened sum is that of addition in the clear."""
    consortium = make_masked_consortium(tmp_path, rounds=1, helpers=("notary", "ethics"))
    aggregator = Aggregator(consortium, tmp_path / "drop")
    hospitals = [Hospital(consortium, site.name, tmp_path / "drop") for site in consortium.study.sites]
    base = read_weights(aggregator.state.model_path(1))
    for _ in range(8):
        for hospital in hospitals:
            hospital.go_on()
        aggregator.look()
        consortium.ask_helpers(aggregator.state)
    total = consortium.total(1, base)
    layout = SumLayout.of({name: tensor.shape for name, tensor in total.items()})
    sites = [hospital.name for hospital in hospitals]
    clear = mean_update(consortium.study, layout, layout.flatten(total), sites)
    expected = apply_update(base.tensors, clear, consortium.study.aggregation)
    assert {hospital.final for hospital in hospitals} == {weights_digest({**base.tensors, **expected.tensors})}
