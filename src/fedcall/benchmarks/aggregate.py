"""A round of many sites through a real aggregator, and its averaging against a numpy mean over the same files."""

import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from pydantic import BaseModel
from safetensors.numpy import load_file

from fedcall.benchmarks.alternation import alternate, median_ratio
from fedcall.documents import write_signed
from fedcall.errors import FedcallError
from fedcall.federation.aggregator.aggregation import Contribution, next_global, quiet_flower
from fedcall.federation.aggregator.service import read_endpoint
from fedcall.federation.site.visits import Place, Visitor, fetch_global, upload_update
from fedcall.keys import create_keys, read_signing_key
from fedcall.privacy.accounting.epsilon import study_epsilon
from fedcall.privacy.mechanism.update_noise import update_noise_std
from fedcall.privacy.terms import PrivacyTerms
from fedcall.study.aggregation_terms import AggregationTerms
from fedcall.study.claims import Claim
from fedcall.study.protection import Protection
from fedcall.study.terms import ModelTerms, Site, Study
from fedcall.weights import weights_digest, write_weights

_PATIENTS = 20
_PRIVACY = PrivacyTerms(noise_multiplier=2.0, steps_per_round=2, delta=1e-3, max_epsilon=3.0)
_START_SECONDS = 120.0


class RoundBenchmark(BaseModel):
    """One round with one size of model. Seconds are wall-clock; an exchange is a fetch or an upload of one site."""

    parameters: int
    sites: int
    at_once: int  # exchanges that run at the same time
    round_seconds: float  # from the first fetch to the next round's model
    exchange_seconds_median: float  # fetch and upload of one site together
    exchange_seconds_worst: float
    peak_memory_mb: dict[str, float]  # of the aggregator's processes
    averaging_seconds: float
    numpy_seconds: float
    averaging_ratio: float  # ours over numpy, median of turns measured side by side
    repeats: int


def benchmark_aggregate(sites: int, parameters: int | None, at_once: int, repeats: int) -> RoundBenchmark:
    """Run one round of `sites` sites through an aggregator on this machine; the shipped model without `parameters`."""
    quiet_flower()  # as the service does
    with tempfile.TemporaryDirectory(prefix="fedcall-") as name:
        folder = Path(name)
        tensors = shipped_or_made(parameters)
        study, updates = agree(folder, tensors, sites)
        seconds = _average(study, tensors, updates, repeats)
        exchanges, round_seconds, memory = _round(folder, study, updates, at_once)
    return RoundBenchmark(
        parameters=sum(tensor.size for tensor in tensors.values()),
        sites=sites,
        at_once=at_once,
        round_seconds=round_seconds,
        exchange_seconds_median=statistics.median(exchanges),
        exchange_seconds_worst=max(exchanges),
        peak_memory_mb=memory,
        averaging_seconds=statistics.median(seconds["fedcall"]),
        numpy_seconds=statistics.median(seconds["numpy mean"]),
        averaging_ratio=median_ratio(seconds["fedcall"], seconds["numpy mean"]),
        repeats=repeats,
    )


def as_text(result: RoundBenchmark) -> str:
    """Return the result for people, at most 80 columns."""
    memory = ", ".join(f"{name} {mb:.0f} MB" for name, mb in result.peak_memory_mb.items())
    return "\n".join(
        [
            f"{result.sites} sites, {result.parameters:,} parameters, {result.at_once} exchanges at once",
            f"  round            {result.round_seconds:8.1f} s",
            f"  exchange, a site {result.exchange_seconds_median:8.2f} s   (worst"
            f" {result.exchange_seconds_worst:.2f} s)",
            f"  averaging        {result.averaging_seconds:8.3f} s   ({result.averaging_ratio:.2f} times a numpy mean:"
            f" {result.numpy_seconds:.3f} s)",
            f"  peak memory      {memory}",
        ]
    )


def shipped_or_made(parameters: int | None) -> dict[str, np.ndarray]:
    """Return a model of so many parameters, or what terms train by default of the shipped one."""
    if parameters is None:
        from fedcall.model.caller import build_model, weights_of

        whole = weights_of(build_model())
        return {name: whole[name] for name in ModelTerms().trainable_names(whole)}
    width = 1000
    rows = max(parameters // width, 1)
    generator = np.random.default_rng(1)
    return {"head.weight": generator.normal(size=(rows, min(width, parameters))).astype(np.float32)}


def agree(
    folder: Path, tensors: dict[str, np.ndarray], sites: int, protection: Protection | None = None
) -> tuple[Study, dict[str, tuple[Path, Path]]]:
    """Make a study of so many sites, and each one's update and claim; return it and their paths by site."""
    study = _agree(folder, tensors, sites, protection or Protection())
    return study, {site.name: _answer(folder, study, site, tensors) for site in study.sites}


@contextmanager
def serving(folder: Path, *options: str) -> Iterator[tuple[Place, int]]:
    """Serve the study of a folder for a while; yield where, and the process id of its supervisor."""
    state = folder / "state"
    command = [
        *(sys.executable, "-m", "fedcall", "aggregator", "serve", "--study", str(folder / "study.json")),
        *("--state", str(state), "--keys", str(folder / "keys" / "coordinator")),
        *("--initial", str(folder / "initial.safetensors"), *options),
    ]
    with open(folder / "serve.log", "wb") as log:
        service = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        end = time.monotonic() + _START_SECONDS
        while (endpoint := read_endpoint(state)) is None:
            if service.poll() is not None or time.monotonic() > end:
                raise FedcallError(f"the aggregator did not start: {(folder / 'serve.log').read_text()[-500:]}")
            time.sleep(0.1)
        yield Place(endpoint.address, state / endpoint.ca), service.pid
    finally:
        service.send_signal(signal.SIGTERM)
        service.wait()


def exchange(folder: Path, study: Study, site: str, place: Place, files: tuple[Path, Path]) -> float:
    """Fetch the first model and upload an update as one site; return the seconds it took."""
    start = time.monotonic()
    visitor = Visitor(study, site, folder / "keys" / site, lambda: place)
    fetch_global(visitor, 1, folder / f"{site}.global.safetensors")
    receipt = upload_update(visitor, 1, *files, folder / f"{site}.receipt.json")
    assert receipt.status == "accepted", receipt.sentence
    return time.monotonic() - start


def plain_updates(folder: Path, tensors: dict[str, np.ndarray], sites: int) -> dict[str, tuple[Path, Path]]:
    """Write as many sites' updates and claims of a plain study; return their paths by site."""
    return agree(folder, tensors, sites)[1]


def _agree(folder: Path, tensors: dict[str, np.ndarray], count: int, protection: Protection) -> Study:
    write_weights(folder / "initial.safetensors", tensors, {"architecture": "pileup_residual"})
    coordinator = create_keys(folder / "keys" / "coordinator", "coordinator")
    sites = []
    for number in range(count):
        identity = create_keys(folder / "keys" / f"site-{number:02d}", f"site-{number:02d}")
        sites.append(
            Site(
                name=identity.name,
                public_key=identity.public_key,
                node_key=identity.node_key,
                patients=_PATIENTS + number,
            )
        )
    study = Study.model_validate(
        {
            "name": "benchmark",
            "coordinator": coordinator.public_key,
            "sites": sites,
            "model": {"initial_weights": weights_digest(tensors)},
            "rounds": 1,
            "privacy": _PRIVACY,
            "protection": protection,
        }
    )
    write_signed(folder / "study.json", study, read_signing_key(folder / "keys" / "coordinator"))
    return study


def _answer(folder: Path, study: Study, site: Site, tensors: dict[str, np.ndarray]) -> tuple[Path, Path]:
    """Write the update of a site, nothing but the noise the study agreed, and its claim."""
    terms = study.training
    std = update_noise_std(study.privacy, study.step_size, terms.iterate_averaging, study.units(site.name))
    generator = np.random.default_rng(list(site.name.encode()))
    names = study.model.trainable_names(tensors)
    update = {name: generator.normal(0, std, tensors[name].shape).astype(np.float32) for name in names}
    base = weights_digest(tensors)
    path, claim = folder / f"{site.name}.safetensors", folder / f"{site.name}.claim.json"
    write_weights(path, update, {"study": study.digest, "round": "1", "base": base})
    document = Claim(
        study=study.digest,
        site=site.name,
        round=1,
        outcome="update",
        base=base,
        update=weights_digest(update),
        privacy=study.privacy,
        epsilon=study_epsilon(study.privacy, 1).pld,
        ledger_head="0" * 64,
        software="benchmark",
    )
    write_signed(claim, document, read_signing_key(folder / "keys" / site.name))
    return path, claim


def _average(
    study: Study, tensors: dict[str, np.ndarray], updates: dict[str, tuple[Path, Path]], repeats: int
) -> dict[str, list[float]]:
    weights = {site.name: site.patients for site in study.sites}
    contributions = [Contribution(site, path, weights[site]) for site, (path, _) in updates.items()]

    def numpy_mean() -> dict[str, np.ndarray]:
        files = [load_file(path) for path, _ in updates.values()]
        return {name: np.mean([file[name] for file in files], axis=0) for name in files[0]}

    ours = {"fedcall": lambda: next_global(tensors, contributions, AggregationTerms())}
    return alternate({**ours, "numpy mean": numpy_mean}, repeats)


def _round(
    folder: Path, study: Study, updates: dict[str, tuple[Path, Path]], at_once: int
) -> tuple[list[float], float, dict[str, float]]:
    with serving(folder) as (place, pid):
        start = time.monotonic()
        with ThreadPoolExecutor(at_once) as pool:
            exchanges = list(pool.map(lambda site: exchange(folder, study, site, place, updates[site]), updates))
        first = study.sites[0].name
        visitor = Visitor(study, first, folder / "keys" / first, lambda: place, wait_seconds=_START_SECONDS)
        fetch_global(visitor, 2, folder / "final.safetensors")
        return exchanges, time.monotonic() - start, _peak_memory(pid)


def _peak_memory(supervisor: int) -> dict[str, float]:
    """Return the peak resident memory of the aggregator's processes in MB (Linux)."""
    names = {"fedcall.federation.flower.hop": "SuperLink", "fedcall.federation.flower.gate": "gate"}
    found: dict[str, float] = {}
    family = {supervisor}
    for pid in sorted(int(path.name) for path in Path("/proc").glob("[0-9]*")):
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            command = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
            status = Path(f"/proc/{pid}/status").read_text()
        except OSError:
            continue
        if int(fields[1]) not in family:
            continue
        family.add(pid)
        name = next((role for word, role in names.items() if word in command), "worker")
        peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
        found[name] = max(found.get(name, 0.0), peak / 1024)
    return found
