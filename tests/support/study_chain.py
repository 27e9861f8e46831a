"""One site's whole study, by the library's own functions: train, upload, judge, verdict; the aggregator beside it."""

import shutil
from pathlib import Path

from example_patients import write_patient
from fedcall.federation.aggregator.state import StudyState
from fedcall.files import write_bytes, write_text
from fedcall.keys import create_keys, read_secret, read_signing_key
from fedcall.model.caller import build_model, save_model, weights_of
from fedcall.privacy.ledger.ledger import Ledger
from fedcall.privacy.terms import PrivacyTerms
from fedcall.study.terms import ModelTerms, Site, Study
from fedcall.training import rounds
from fedcall.training.judging import HeldOut, JudgingSite, judge_models
from fedcall.weights import weights_digest
from made_concordances import made_concordance

HELD_OUT, PATIENTS = 4, 2
RELEASES = [("reserve", 1), ("release", 1), ("reserve", 2), ("release", 2)]


_PRIVACY = {
    "noise_multiplier": 2.0,
    "sampling_rate": 0.5,
    "steps_per_round": 2,
    "rows_per_unit": 4,
    "delta": 0.04,
}


class Chain:
    """One site's whole study in a folder of its own, and its aggregator's state beside it."""

    def __init__(self, source: Path, folder: Path) -> None:
        self.folder, self.source = folder, source
        shutil.copytree(source / "keys", folder / "keys")
        self.study = Study.model_validate_json((source / "study.json").read_bytes())
        self.ledger, self.initial = folder / "ledger.sqlite", source / "initial.safetensors"

    def out(self, name: str) -> Path:
        return self.folder / "out" / name

    def run(self) -> None:
        """Take part from the first model to the verdict, as the rules of the workflow do; again, if run again."""
        keys, update, claim = self.folder / "keys", self.out("update.safetensors"), self.out("claim.json")
        examples = [self.source / f"p{seed}.safetensors" for seed in range(PATIENTS)]
        files = rounds.RoundFiles(keys, self.initial, examples, self.ledger, update, claim)
        rounds.train_round(self.study, "north", 1, files)
        state = StudyState(self.folder / "aggregator", self.study, read_signing_key(keys), self.initial)
        write_bytes(self.out("receipt.json"), state.answer("north", 1, claim.read_bytes(), update.read_bytes()))
        state.close_round_if_due()
        judgement = self.out("judgement.json")
        site = JudgingSite("north", keys, self.ledger, [self.out("receipt.json")])
        paths = [[self.source / caller / f"h{number}.json" for number in range(HELD_OUT)] for caller in ("a", "b")]
        judge_models(self.study, site, (self.initial, state.model_path(2)), HeldOut(*paths), judgement)
        write_bytes(self.out("judged.json"), state.judge.answer("north", judgement.read_bytes(), b""))
        state.close_round_if_due()
        verdict = state.judge.verdict()
        assert verdict is not None
        write_bytes(self.out("verdict.json"), verdict)

    def rows(self) -> list[tuple[str, int]]:
        if not self.ledger.is_file():
            return []
        with Ledger.open(self.ledger, read_secret(self.folder / "keys")) as ledger:
            assert ledger.verify() is None
            return [(row.kind, row.round) for row in ledger.rows()]

    def left(self) -> dict[str, bytes]:
        """Return the files that are outside of the site, or may be: by name."""
        folder = self.folder / "out"
        return {path.name: path.read_bytes() for path in folder.glob("[!.]*")} if folder.exists() else {}


def write_site(folder: Path, **privacy: object) -> Path:
    """Write keys, study, patients and held-out patients' results of a site; return the folder."""
    identity = create_keys(folder / "keys", "north")
    save_model(folder / "initial.safetensors", build_model())
    for seed in range(PATIENTS):
        write_patient(folder / f"p{seed}.safetensors", seed, 12)
    for caller, right in (("a", 140), ("b", 144)):
        for number in range(HELD_OUT):
            write_text(folder / caller / f"h{number}.json", made_concordance(right + number).model_dump_json())
    site = Site(name="north", public_key=identity.public_key, node_key="ssh", patients=PATIENTS, holdout=HELD_OUT)
    study = Study(
        name="tiny",
        coordinator=identity.public_key,
        sites=(site,),
        rounds=1,
        model=ModelTerms(initial_weights=weights_digest(weights_of(build_model()))),
        privacy=PrivacyTerms(**{**_PRIVACY, **privacy}),
        evaluation={"epsilon": 1.0},
        aggregation={"minimum_sites": 1},
    )
    write_text(folder / "study.json", study.model_dump_json())
    return folder
