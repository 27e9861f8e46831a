"""`fedcall site`, through the shell."""

import subprocess
import sys


def _fedcall(*arguments):
    command = [sys.executable, "-m", "fedcall", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)


def test_keygen__twice_keeps_the_keys(tmp_path):
    first = _fedcall("site", "keygen", "--name", "north", "--output", tmp_path / "keys")
    before = {path.name: path.read_bytes() for path in (tmp_path / "keys").iterdir()}
    second = _fedcall("site", "keygen", "--name", "north", "--output", tmp_path / "keys")
    assert (first.returncode, second.returncode) == (0, 0)
    assert first.stdout == second.stdout
    assert {path.name: path.read_bytes() for path in (tmp_path / "keys").iterdir()} == before
    assert all(path.stat().st_mode & 0o077 == 0 for path in (tmp_path / "keys").iterdir() if path.name != "site.json")


def test_keygen__says_where_the_public_file_goes(tmp_path):
    site, coordinator = (
        _fedcall("site", "keygen", "--name", name, "--output", tmp_path / name).stdout
        for name in ("north", "coordinator")
    )
    assert "send this one to the coordinator" in site
    assert "send" not in coordinator
    assert "'fedcall study new' takes this one" in coordinator


def test_keygen__sites_of_a_rehearsal(tmp_path):
    names = ("--name", "north", "--name", "south")
    shared = _fedcall("site", "keygen", *names, "--output", tmp_path / "keys")
    assert shared.returncode == 2
    assert "several sites need a path each" in shared.stderr
    paths = ("--output", tmp_path / "{site}/keys", "--public", tmp_path / "public/{site}.json")
    done = _fedcall("site", "keygen", *names, *paths)
    assert done.returncode == 0, done.stderr
    public = [(tmp_path / f"public/{name}.json").read_text() for name in ("north", "south")]
    assert public == [(tmp_path / f"{name}/keys/site.json").read_text() for name in ("north", "south")]
    assert public[0] != public[1]


def test_keygen__folder_of_another_site(tmp_path):
    _fedcall("site", "keygen", "--name", "north", "--output", tmp_path)
    done = _fedcall("site", "keygen", "--name", "south", "--output", tmp_path)
    assert done.returncode == 2
    assert "site 'north'" in done.stderr


def test_keygen__bad_name(tmp_path):
    done = _fedcall("site", "keygen", "--name", "../north", "--output", tmp_path / "keys")
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "keys").exists()
