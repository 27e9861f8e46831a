"""A site's keys: made once, private, and complete."""

import stat

import pytest

from fedcall.documents import public_text
from fedcall.errors import FedcallError
from fedcall.keys import create_keys, read_identity, read_node_key, read_secret, read_signing_key, rotate_keys


def test_create_keys__private_files_are_private(tmp_path):
    identity = create_keys(tmp_path / "keys", "north")
    for name in ("secret", "signing.key", "node.key"):
        assert stat.S_IMODE((tmp_path / "keys" / name).stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "keys").stat().st_mode) == 0o700
    assert public_text(read_signing_key(tmp_path / "keys").public_key()) == identity.public_key
    assert read_node_key(tmp_path / "keys").curve.name == "secp384r1"
    assert len(read_secret(tmp_path / "keys")) == 32


def test_create_keys__again_changes_nothing(tmp_path):
    first = create_keys(tmp_path, "north")
    secret = read_secret(tmp_path)
    assert create_keys(tmp_path, "north") == first == read_identity(tmp_path)
    assert read_secret(tmp_path) == secret


def test_create_keys__two_sites_share_nothing(tmp_path):
    create_keys(tmp_path / "a", "north")
    create_keys(tmp_path / "b", "south")
    assert read_secret(tmp_path / "a") != read_secret(tmp_path / "b")
    assert read_identity(tmp_path / "a").public_key != read_identity(tmp_path / "b").public_key


def test_create_keys__folder_of_another_site_is_refused(tmp_path):
    create_keys(tmp_path, "north")
    with pytest.raises(FedcallError, match="site 'north', not of 'south'"):
        create_keys(tmp_path, "south")


def test_create_keys__a_lost_public_file_never_replaces_the_secret(tmp_path):
    create_keys(tmp_path, "north")
    secret = read_secret(tmp_path)
    (tmp_path / "site.json").unlink()
    with pytest.raises(FedcallError, match=r"exists without site\.json"):
        create_keys(tmp_path, "north")
    assert read_secret(tmp_path) == secret


@pytest.mark.parametrize(
    ("file", "read"), [("secret", read_secret), ("signing.key", read_signing_key), ("node.key", read_node_key)]
)
def test_read__readable_by_others_is_refused(tmp_path, file, read):
    create_keys(tmp_path, "north")
    (tmp_path / file).chmod(0o640)
    with pytest.raises(FedcallError, match="chmod 600"):
        read(tmp_path)
    (tmp_path / file).chmod(0o600)
    (tmp_path / file).write_bytes(b"x")
    with pytest.raises(FedcallError, match="restore it from your backup"):
        read(tmp_path)
    (tmp_path / file).unlink()
    with pytest.raises(FedcallError, match="fedcall site keygen"):
        read(tmp_path)


def test_rotate_keys__new_keys_and_the_same_secret(tmp_path):
    first, secret = create_keys(tmp_path / "keys", "north"), read_secret(tmp_path / "keys")
    identity, old = rotate_keys(tmp_path / "keys")
    assert identity.name == "north"
    assert identity.public_key != first.public_key
    assert identity.node_key != first.node_key
    assert read_identity(tmp_path / "keys") == identity
    assert read_secret(tmp_path / "keys") == secret
    assert public_text(read_signing_key(tmp_path / "keys").public_key()) == identity.public_key
    assert read_identity(old) == first
    assert not (old / "secret").exists()
    assert all(path.stat().st_mode & 0o077 == 0 for path in [old, *old.iterdir(), tmp_path / "keys/signing.key"])
    assert rotate_keys(tmp_path / "keys")[1] != old
