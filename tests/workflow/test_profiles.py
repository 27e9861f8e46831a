"""The profiles: what they ask of a cluster, and that the submit commands of each scheduler do submit."""

import os
import re
import sys

import pytest
import yaml

from forked import run_forked
from rehearsal_workspace import ROOT, Workspace

CLUSTER_PROFILES = ("slurm", "cluster-generic")
RULE_FILES = sorted((ROOT / "workflow/rules").glob("*.smk"))
LOCAL = {"all", "fetch_global", "upload_update", "fetch_final", "upload_judgement", "fetch_verdict"}
# What the submit commands of the profile call. Options are kept for the test to see; the job runs at once.
FAKE_SCHEDULER = """\
#!{python}
import pathlib, subprocess, sys
with pathlib.Path({record!r}).open("a") as record:
    print(*sys.argv, sep="\\n", file=record)
subprocess.Popen(["bash", sys.argv[-1]], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
print({answer!r})
"""
ANSWERS = {"qsub": "4711", "bsub": "Job <4711> is submitted to queue <normal>."}


def profile(name: str) -> dict:
    return yaml.safe_load((ROOT / "profiles" / name / "config.yaml").read_text())


def rules() -> dict[str, str]:
    """Return the text of every rule, those made from another included, by name."""
    found = {}
    for path in RULE_FILES:
        for block in re.split(r"^ *(?=(?:use )?rule \w+)", path.read_text(), flags=re.MULTILINE):
            match = re.match(r"rule (\w+):|use rule \w+ as (\w+) with:", block)
            if match:
                found[match[1] or match[2]] = block
    return found


def submit_commands() -> dict[str, dict[str, str]]:
    """Return the settings of every scheduler in the generic profile, those in comments too."""
    text = (ROOT / "profiles/cluster-generic/config.yaml").read_text()
    blocks = re.findall(r"^(?:# )?cluster-generic-submit-cmd: >-\n(?:(?:# )?  .+\n)+", text, flags=re.MULTILINE)
    settings = [yaml.safe_load(re.sub(r"^# ", "", block, flags=re.MULTILINE)) for block in blocks]
    return dict(zip(("grid engine", "pbs", "lsf"), settings, strict=True))


@pytest.mark.parametrize("name", CLUSTER_PROFILES)
def test_profiles__name_rules_and_groups_that_exist(name):
    content, texts = profile(name), rules()
    for key in ("set-resources", "set-threads", "groups"):
        assert set(content[key]) <= set(texts), key
    groups = set(re.findall(r'group:\n +"(\S+)"', "".join(texts.values()))) | set(content["groups"].values())
    assert set(content["group-components"]) <= groups


@pytest.mark.parametrize("name", CLUSTER_PROFILES)
def test_profiles__numbers_grow_with_the_attempt_but_for_training(name):
    for rule, resources in profile(name)["set-resources"].items():
        for key in ("mem_mb", "runtime"):
            assert ("attempt" in str(resources[key])) == (rule != "train_round"), rule


def test_profiles__all_clusters_give_the_same():
    slurm, generic = (profile(name) for name in CLUSTER_PROFILES)
    for key in ("set-resources", "set-threads", "groups", "group-components", "retries", "cores"):
        assert slurm[key] == generic[key], key


def test_rules__grow_with_the_attempt_where_trying_again_is_safe():
    for name, text in rules().items():
        if "resources:" in text and name not in LOCAL | {"train_round", "judge_models"}:
            for key in ("mem_mb", "runtime"):
                assert re.search(rf"{key}=lambda wildcards, attempt: ", text), f"{name}: {key}"


def test_rules__local_are_those_whose_command_is_an_exchange():
    exchanges = {
        name for name, text in rules().items() if re.search(r'"fedcall (fetch|upload|aggregator)[a-z-]* ', text)
    }
    assert exchanges | {"all"} == LOCAL


@pytest.mark.slow
@pytest.mark.parametrize("scheduler", submit_commands())
def test_cluster_generic__submits(workspace: Workspace, scheduler: str):
    commands = workspace.path / "commands"
    commands.mkdir()
    record = workspace.path / "submitted"
    for command, answer in ANSWERS.items():
        script = FAKE_SCHEDULER.format(python=sys.executable, record=str(record), answer=answer)
        (commands / command).write_text(script)
        (commands / command).chmod(0o755)
    content = {key: value for key, value in profile("cluster-generic").items() if not key.startswith("cluster-generic")}
    (workspace.path / "profile").mkdir()
    settings = content | submit_commands()[scheduler] | {"latency-wait": 5, "seconds-between-status-checks": 1}
    (workspace.path / "profile/config.yaml").write_text(yaml.safe_dump(settings))
    target = "results/tiny/north/site.json"
    result = run_forked(
        *("snakemake", "--snakefile", ROOT / "Snakefile", "--profile", "profile", "--", target),
        cwd=workspace.path,
        env=os.environ | {"PATH": f"{commands}:{os.environ['PATH']}"},
        together=True,
    )
    assert result.returncode == 0, result.stdout[-3000:]
    assert "external jobid '4711'" in result.stdout
    assert (workspace.path / target).is_file()
    assert set(submitted_limits(record.read_text())) == {"minutes 5", "memory 500"}


def submitted_limits(options: str) -> list[str]:
    """Return the time and memory a submission asked for, in the units of the rules."""
    found = []
    for pattern, words in (
        (r"h_rt=(\d+)|walltime=(\d+)", lambda seconds: f"minutes {int(seconds) // 60}"),
        (r"-W\n(\d+)", lambda minutes: f"minutes {minutes}"),
        (r"h_vmem=(\d+)M", lambda slot: f"memory {int(slot) // 100 * 100}"),
        (r":mem=(\d+)mb|rusage\[mem=(\d+)\]", lambda mem_mb: f"memory {mem_mb}"),
    ):
        found += [words(next(filter(None, match.groups()))) for match in re.finditer(pattern, options)]
    return found
