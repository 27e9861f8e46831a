"""The few commands of conda that Snakemake calls, on py-rattler: `python conda_shim.py ROOT CHANNEL COMMAND…`.

No conda can be installed from a Python package index. Solving, unpacking and linking are rattler's, as in pixi; every
channel an environment names is looked up in the folder CHANNEL.
"""

import argparse
import asyncio
import json
import os
import sys
from pathlib import Path

import rattler
import yaml

VERSION = "24.7.1"  # the oldest that Snakemake accepts


async def create(prefix: Path, file: Path, channel: rattler.Channel, cache: Path) -> None:
    """Make the environment that a YAML file describes."""
    environment = yaml.safe_load(file.read_text())
    records = await rattler.solve(
        [channel],
        [rattler.MatchSpec(dependency, strict=True) for dependency in environment["dependencies"]],
        gateway=rattler.Gateway(),
        platforms=["linux-64", "noarch"],
        channel_priority=rattler.ChannelPriority.Strict,
    )
    await rattler.install(records, str(prefix), cache_dir=str(cache), show_progress=False)
    (prefix / "conda-meta/history").touch()


def main(root: Path, channel: Path, arguments: list[str]) -> None:
    """Answer one command."""
    command = [argument for argument in arguments if argument != "env"]
    if command[0] == "--version":
        print("conda", VERSION)
    elif command[0] == "info":
        print(json.dumps({"conda_prefix": str(root), "platform": "linux-64", "conda_version": VERSION}))
    elif command[0] == "config":
        print(json.dumps({"get": {"channel_priority": "strict"}}))
    elif command[0] == "create":
        parser = argparse.ArgumentParser()
        parser.add_argument("--file", type=Path, required=True)
        parser.add_argument("--prefix", type=Path, required=True)
        options, _ = parser.parse_known_args(command[1:])
        asyncio.run(create(options.prefix, options.file, rattler.Channel(channel.as_uri()), root / "packages"))
    elif command[0] != "clean":
        sys.exit(f"conda_shim: {arguments} is not known")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
    sys.stdout.flush()
    os._exit(0)  # rattler's threads do not end by themselves
