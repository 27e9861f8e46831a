"""A real Slurm of one node on loopback, for as long as a command or a test runs.

    python tests/slurm/one_node_slurm.py snakemake --profile profiles/slurm

starts munged, slurmctld and slurmd of Debian's `slurm-wlm` and `munge`, runs the command, and stops the three by their
process ids. It needs root, and writes one link outside its own folder, /etc/slurm/slurm.conf, because
snakemake-executor-plugin-slurm-jobstep removes SLURM_CONF from a job's environment. A file that lies there is put
aside and put back; a Slurm that runs on this machine is left alone, and is a reason not to start.

A run that was killed leaves its link, and with it every start of Snakemake waits nine seconds for a Slurm that is gone
(the Slurm plugin asks `scontrol`). The next run removes it; so does `python tests/slurm/one_node_slurm.py --clean`.
"""

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

CONFIGURATION = Path("/etc/slurm/slurm.conf")
PUT_ASIDE = CONFIGURATION.with_name("slurm.conf.put-aside-by-fedcall")
DAEMONS = ("munged", "slurmctld", "slurmd")
COMMANDS = ("sbatch", "srun", "squeue", "scancel", "sinfo", "setpriv")

# More cores and memory than the machine may have, so that jobs overlap as on a cluster; neither control groups nor
# accounting, which need a system's services. MinJobAge keeps ended jobs visible to squeue, which stands in for
# accounting. A job may ask for partition gpu and cards there, which do not exist.
MARK = "ClusterName=fedcall-test"
TEMPLATE = (
    MARK
    + """
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
CredType=cred/munge
SlurmUser=root
SlurmdUser=root
SlurmdParameters=config_overrides
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,bf_interval=2
KillWait=3
MinJobAge=600
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
PropagateResourceLimits=NONE
LaunchParameters=disable_send_gids
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=256000 Gres=gpu:2 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
PartitionName=gpu Nodes={host} MaxTime=INFINITE State=UP
"""
)


def reason_against() -> str | None:
    """Return why a Slurm of our own cannot be started on this machine, or nothing if it can."""
    if os.geteuid() != 0:
        return "needs root"
    missing = [command for command in (*DAEMONS, *COMMANDS) if shutil.which(command) is None]
    if missing:
        return f"{', '.join(missing)} not found: apt-get install slurm-wlm munge"
    running = _running(DAEMONS)
    if running:
        return f"{', '.join(running)} of another Slurm runs on this machine"
    return None


@contextlib.contextmanager
def one_node_slurm(folder: Path, cpus: int = 4) -> Iterator[None]:
    """Run a Slurm of one node, its state in `folder`, until the block ends.

    Parameters
    ----------
    folder : Path
        Must be on a path that only root can write to: munge refuses others.
    cpus : int
        Cores the node claims to have.

    Raises
    ------
    RuntimeError
        If the node is not idle after five minutes, with the ends of the daemons' logs.
    """
    host = socket.gethostname().split(".")[0]
    for name in ("munge", "state", "spool"):
        (folder / name).mkdir(parents=True)
    folder.chmod(0o755)
    key = folder / "munge/key"
    key.touch(mode=0o600)
    key.write_bytes(secrets.token_bytes(1024))
    (folder / "gres.conf").write_text("Name=gpu File=/dev/null\nName=gpu File=/dev/zero\n")
    (folder / "slurm.conf").write_text(
        TEMPLATE.format(
            host=host,
            folder=folder,
            cpus=cpus,
            controller_port=_free_port(),
            node_port=_free_port(),
        )
    )
    munge = [f"--{name}-file={folder}/munge/{name}" for name in ("key", "pid", "log", "seed")]
    started: list[subprocess.Popen[bytes]] = []
    with _configuration_in_place(folder / "slurm.conf"):
        try:
            started.append(_start("munged", "--foreground", "--force", f"--socket={folder}/munge/socket", *munge))
            _wait(lambda: (folder / "munge/socket").exists(), folder)
            started.append(_start("slurmctld", "-D", "-f", folder / "slurm.conf"))
            started.append(_start("slurmd", "-D", "-f", folder / "slurm.conf", "-N", host))
            _wait(lambda: _output("sinfo", "--noheader", "--format=%T") == "idle", folder)
            yield
        finally:
            _cancel_all_jobs()
            for daemon in reversed(started):
                _stop(daemon)


def clean() -> None:
    """Undo what a run of ours that was killed did to /etc/slurm: no daemon of Slurm runs."""
    if CONFIGURATION.is_symlink() and (not CONFIGURATION.exists() or MARK in CONFIGURATION.read_text()):
        CONFIGURATION.unlink()
    if PUT_ASIDE.exists() and not CONFIGURATION.exists():
        PUT_ASIDE.rename(CONFIGURATION)


def _start(daemon: str, *options: object) -> subprocess.Popen[bytes]:
    # A daemon goes when its parent does, however that ends.
    command = ["setpriv", "--pdeathsig", "TERM", shutil.which(daemon) or daemon, *map(str, options)]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _stop(daemon: subprocess.Popen[bytes]) -> None:
    daemon.send_signal(signal.SIGTERM)
    try:
        daemon.wait(timeout=120)
    except subprocess.TimeoutExpired:
        daemon.kill()
        daemon.wait()


def _cancel_all_jobs() -> None:
    """Cancel what still runs and wait until it is gone, so that no job outlives its Slurm."""
    jobs = _output("squeue", "--noheader", "--states=PENDING,RUNNING,COMPLETING", "--format=%i").split()
    if jobs:
        _output("scancel", *jobs)
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and _output("squeue", "--noheader", "--states=RUNNING,COMPLETING"):
        time.sleep(0.2)


@contextlib.contextmanager
def _configuration_in_place(path: Path) -> Iterator[None]:
    """Link /etc/slurm/slurm.conf to `path`; a file that was there comes back afterwards."""
    CONFIGURATION.parent.mkdir(exist_ok=True)
    clean()
    if CONFIGURATION.exists():
        CONFIGURATION.rename(PUT_ASIDE)
    CONFIGURATION.symlink_to(path)
    try:
        yield
    finally:
        CONFIGURATION.unlink()
        if PUT_ASIDE.exists():
            PUT_ASIDE.rename(CONFIGURATION)


def _wait(ready, folder: Path) -> None:
    deadline = time.monotonic() + 300
    while not ready():
        if time.monotonic() > deadline:
            logs = [log for log in (folder / "munge/log", *folder.glob("*.log")) if log.is_file()]
            ends = "\n".join(f"{log.name}: {log.read_text()[-1000:]}" for log in logs)
            raise RuntimeError(f"Slurm did not start in {folder}:\n{ends}")
        time.sleep(0.1)


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, timeout=300).stdout.strip()


def _running(names: tuple[str, ...]) -> list[str]:
    """Return which of the programs have a process on this machine."""
    running = set()
    for process in Path("/proc").glob("[0-9]*/comm"):
        with contextlib.suppress(OSError):
            running.add(process.read_text().strip())
    return [name for name in names if name in running]


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def main(command: list[str]) -> int:
    """Run a command beside a Slurm of one node; return its exit status."""
    reason = reason_against()
    if command == ["--clean"] and not _running(DAEMONS):
        clean()
        return 0
    if reason or not command:
        print(f"one_node_slurm: {reason or 'no command given'}", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # through the cleaning up
    folder = Path(tempfile.mkdtemp(prefix="one-node-slurm-"))
    try:
        with one_node_slurm(folder):
            return subprocess.run(command).returncode
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
