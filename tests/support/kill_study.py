"""A whole study, Snakemake at each hospital and the aggregator as a service, while processes of it are killed.

`python tests/support/kill_study.py --kills 50 --folder /tmp/killed` prints what was killed and how it ended: the final
model has the bytes of an undisturbed run, and each ledger has one charge for each round. With `--mode masked` a helper
takes part and is killed, too; with `--mode sealed` the aggregator's worker, which is killed like all others, is what
runs in the (simulated) enclave.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from hospitals import PATIENTS, agree, move_cohort, train_first_model
from rehearsal_workspace import BIN, ROOT, Workspace

ROUNDS = 3


def make(root: Path, sites: tuple[str, ...], mode: str = "plain") -> tuple[Workspace, dict[str, Workspace]]:
    """Make keys, patients and the signed study `pilot` of three rounds; nothing runs yet."""
    root.mkdir(parents=True)
    coordinator, hospitals = Workspace(root / "coordinator"), {site: Workspace(root / site) for site in sites}
    Workspace(root).fedcall(
        *("simulate", "--seed", 11, *(option for site in sites for option in ("--site", f"{site}={PATIENTS}"))),
        *("--holdout", 0, "--public", 1, "--region-length", 6000, "--depth", 20, "--output", "cohort"),
    )
    move_cohort(root / "cohort", coordinator.path / "data", "public")
    coordinator.fedcall("site", "keygen", "--name", "coordinator", "--output", "private/keys")
    for site, hospital in hospitals.items():
        move_cohort(root / "cohort", hospital.path / "data", site)
        hospital.fedcall("site", "keygen", "--name", site, "--output", f"private/{site}/keys")
        shutil.copy(hospital.path / f"private/{site}/keys/site.json", coordinator.path / f"{site}.json")
    train_first_model(coordinator)
    if mode == "masked":
        (root / "helper").mkdir()
        public = ("--public", "../coordinator/helper.json")
        Workspace(root / "helper").fedcall("helper", "keygen", "--name", "notary", "--output", "keys", *public)
    if mode == "sealed":
        coordinator.fedcall("attestation", "simulate", "machine", "--policy", "policy.yaml")
    agree(coordinator, "pilot", ROUNDS, sites, max_epsilon=20.0, mode=mode)
    return coordinator, hospitals


@dataclass
class Runner:
    """Starts what was killed again, as systemd and a person do; `killed` counts what was killed."""

    root: Path
    sites: tuple[str, ...]
    service: subprocess.Popen[bytes] | None = None
    helping: subprocess.Popen[bytes] | None = None
    runs: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    done: set[str] = field(default_factory=set)
    killed: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.coordinator, self.helper = Workspace(self.root / "coordinator"), Workspace(self.root / "helper")
        self.hospitals = {site: Workspace(self.root / site) for site in self.sites}
        self.state = self.coordinator.path / "state"

    def tend(self) -> None:
        """Start what should run and does not."""
        if self.service is None or self.service.poll() is not None:
            machine = ("--enclave", "simulated:machine") if (self.coordinator.path / "machine").exists() else ()
            command = [
                *("aggregator", "serve", "--study", "pilot.json", "--state", self.state, *machine),
                *("--keys", "private/keys", "--initial", "initial.safetensors", "--listen", self._address()),
            ]
            self.service = _start(self.coordinator.path, self.state.with_suffix(".log"), command)
        if not (self.state / "endpoint.json").exists():
            return
        if self.helper.path.exists() and (self.helping is None or self.helping.poll() not in (None, 0)):
            self._start_helper()
        for site, hospital in self.hospitals.items():
            run = self.runs.get(site)
            if site in self.done or (run is not None and run.poll() is None):
                continue
            if run is not None and run.returncode == 0:
                self.done.add(site)
                continue
            if run is None:
                self._configure(site, hospital)
            elif run.returncode > 0:
                self.failed[site] += 1
            snakemake = f"{BIN}/snakemake -s {ROOT}/Snakefile --cores 1 --configfile config.yaml"
            with open(hospital.path / "run.log", "ab") as log:
                self.runs[site] = subprocess.Popen(
                    ["sh", "-c", f"{snakemake} --unlock; exec {snakemake}"],
                    cwd=hospital.path,
                    env=os.environ | {"OMP_NUM_THREADS": "1"},
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )

    def kill_one(self, chance: random.Random) -> str:
        """Kill -9 one process of the study, or a whole run with all its jobs; return what it was."""
        found = dict(self._victims())
        if not found:
            return ""
        name = chance.choice(sorted(found))
        with suppress(ProcessLookupError):
            (os.killpg if name.startswith("run of") else os.kill)(found[name], signal.SIGKILL)
            self.killed[name.rstrip("0123456789 ")] += 1
        return name

    def is_done(self) -> bool:
        """Say whether each hospital's workflow ended, and the helper, if there is one, said that the study is done."""
        helped = not self.helper.path.exists() or (self.helping is not None and self.helping.poll() == 0)
        return helped and len(self.done) == len(self.hospitals)

    def end(self) -> None:
        """Stop the service."""
        for process in (*self.runs.values(), self.helping, self.service):
            if process is not None and process.poll() is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGTERM)
                process.wait(30)

    def _address(self) -> str:
        """Return the address of an earlier start: helper and hospitals know no other."""
        endpoint = self.state / "endpoint.json"
        return json.loads(endpoint.read_bytes())["address"] if endpoint.exists() else "127.0.0.1:0"

    def _start_helper(self) -> None:
        for path in (self.coordinator.path / "pilot.json", self.state / "ca.crt"):
            shutil.copy(path, self.helper.path)
        command = [
            *("helper", "serve", "--study", "pilot.json", "--keys", "keys", "--state", "answers"),
            *("--aggregator", self._address(), "--ca", "ca.crt"),
        ]
        self.helping = _start(self.helper.path, self.helper.path / "helper.log", command)

    def _configure(self, site: str, hospital: Workspace) -> None:
        status = json.loads((self.state / "endpoint.json").read_bytes())
        for path in (self.coordinator.path / "pilot.json", self.state / "ca.crt"):
            shutil.copy(path, hospital.path)
        config = {
            "study": "pilot.json",
            "approved_study": status["study"],
            "site": site,
            "aggregator": status["address"],
            "ca": "ca.crt",
            "samples": "data/samples.tsv",
            "reference": "data/reference.fa",
        }
        (hospital.path / "config.yaml").write_text(yaml.safe_dump(config))

    def _victims(self) -> Iterator[tuple[str, int]]:
        parents, commands = {}, {}
        for path in Path("/proc").glob("[0-9]*"):
            with suppress(OSError, IndexError):
                fields = (path / "stat").read_text().rpartition(")")[2].split()
                parents[int(path.name)] = int(fields[1])
                commands[int(path.name)] = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        for site, run in self.runs.items():
            if run.poll() is None:
                yield f"run of {site}", run.pid
                for pid in _below(run.pid, parents):
                    if "fedcall" in commands[pid] and "snakemake" not in commands[pid]:
                        yield f"job of {site} {pid}", pid
        if self.helping is not None and self.helping.poll() is None:
            yield "helper", self.helping.pid
        if self.service is not None and self.service.poll() is None:
            yield "supervisor", self.service.pid
            for pid in _below(self.service.pid, parents):
                kinds = {"flower.hop": "superlink", "flower.gate": "gate"}
                name = next((kind for word, kind in kinds.items() if word in commands[pid]), "worker")
                yield name, pid


def _start(folder: Path, log: Path, command: list[object]) -> subprocess.Popen[bytes]:
    with open(log, "ab") as file:
        return subprocess.Popen(
            [BIN / "fedcall", *map(str, command)], cwd=folder, stdout=file, stderr=file, start_new_session=True
        )


def _below(root: int, parents: dict[int, int]) -> list[int]:
    found, waiting = [], [root]
    while waiting:
        children = [pid for pid, parent in parents.items() if parent == waiting[0]]
        found += children
        waiting = waiting[1:] + children
    return found


def run_study(
    runner: Runner, kills: int = 0, seed: int = 1, pause: tuple[float, float] = (2.0, 12.0), minutes: float = 60.0
) -> None:
    """Run to the end while killing; raise AssertionError if it does not end within so many minutes."""
    chance, end = random.Random(seed), time.monotonic() + 60 * minutes
    strike = time.monotonic() + chance.uniform(*pause)
    try:
        while not runner.is_done():
            assert time.monotonic() < end, f"not done: {runner.killed}, failed runs {runner.failed}"
            runner.tend()
            if runner.killed.total() < kills and time.monotonic() > strike:
                runner.kill_one(chance)
                strike = time.monotonic() + chance.uniform(*pause)
            time.sleep(0.2)
    finally:
        runner.end()


def outcome(runner: Runner) -> dict[str, object]:
    """Return what must not depend on kills: the models' bytes, and the ledgers' charges by round."""
    found: dict[str, object] = {}
    for site, hospital in runner.hospitals.items():
        shown = hospital.fedcall("ledger", "show", "--ledger", f"private/{site}/ledger.sqlite", "--json")
        rounds = [(one["round"], one["state"], one["patients"]) for one in json.loads(shown)["rounds"]]
        found[site] = (hospital.path / "results/pilot/final.safetensors").read_bytes(), rounds
        assert json.loads(shown)["rows"] == 2 * ROUNDS, "one charge and one release for each round"
    return found


def main() -> None:
    """Run an undisturbed study and one with kills; print figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--pause", type=float, nargs=2, default=(2.0, 12.0), help="seconds between two kills")
    parser.add_argument("--mode", choices=("plain", "masked", "sealed"), default="plain")
    parser.add_argument("--folder", type=Path, required=True)
    options = parser.parse_args()
    options.folder.mkdir(parents=True)
    sites = ("lakeside", "hillside")
    make(options.folder / "made", sites, options.mode)
    outcomes = []
    left, number = options.kills, 0
    while number == 0 or left > 0:  # a study is over before many kills: study after study, until there were so many
        name, kills = (f"killed {number}", left) if number else ("undisturbed", 0)
        root = shutil.copytree(options.folder / "made", options.folder / name.replace(" ", "_"))
        runner = Runner(root, sites)
        start = time.monotonic()
        run_study(runner, kills, options.seed + number, tuple(options.pause), options.minutes)
        outcomes.append(outcome(runner))
        seconds = time.monotonic() - start
        left, number = left - runner.killed.total(), number + 1
        print(
            f"{name}: {seconds:.0f} s, killed {dict(runner.killed)}, runs that failed {dict(runner.failed)}", flush=True
        )
        shutil.rmtree(root)
    same = all(one == outcomes[0] for one in outcomes)
    print("the same models, one charge a round" if same else "NOT THE SAME")
    sys.exit(not same)


if __name__ == "__main__":
    main()
