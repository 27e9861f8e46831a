"""Writing is all or nothing."""

import os
import stat

import pytest

from fedcall.files import atomic_path, file_stamp, sha256_file, write_bytes, write_text


def test_write_bytes__replaces_whole(tmp_path):
    write_bytes(tmp_path / "deep" / "a.bin", b"one")
    write_bytes(tmp_path / "deep" / "a.bin", b"two")
    assert (tmp_path / "deep" / "a.bin").read_bytes() == b"two"
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["a.bin"]


def test_write_bytes__syncs_the_content_before_its_name_and_then_the_folder(tmp_path, monkeypatch):
    """A power cut leaves the old file or the whole new one, and after the call the new one."""
    done, fsync, replace = [], os.fsync, os.replace

    def remember_fsync(descriptor):
        done.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "content")
        fsync(descriptor)

    def remember_replace(*paths):
        done.append("name")
        replace(*paths)

    monkeypatch.setattr(os, "fsync", remember_fsync)
    monkeypatch.setattr(os, "replace", remember_replace)
    write_bytes(tmp_path / "a.bin", b"one")
    assert done == ["content", "name", "folder"]


def test_atomic_path__failure_leaves_the_old_file_and_no_other(tmp_path):
    write_text(tmp_path / "a.txt", "old")
    with pytest.raises(RuntimeError), atomic_path(tmp_path / "a.txt") as temporary:  # noqa: PT012
        temporary.write_text("half")
        raise RuntimeError
    assert (tmp_path / "a.txt").read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


def test_atomic_path__keeps_the_suffix_and_the_umask(tmp_path):
    with atomic_path(tmp_path / "a.vcf.gz") as temporary:
        assert temporary.name.endswith(".vcf.gz")
        temporary.write_bytes(b"x")
    (tmp_path / "plain").touch()
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("a.vcf.gz", "plain")}
    assert len(modes) == 1


def test_sha256_file__empty(tmp_path):
    (tmp_path / "empty").touch()
    assert sha256_file(tmp_path / "empty") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_file_stamp__of_another_size_or_another_time_is_another(tmp_path):
    path = tmp_path / "a.bam"
    path.write_bytes(b"one")
    os.utime(path, ns=(1, 10**18))
    first = file_stamp(path)
    path.write_bytes(b"longer")
    os.utime(path, ns=(1, 10**18))
    longer = file_stamp(path)
    os.utime(path, ns=(1, 10**18 + 1))
    assert len({first, longer, file_stamp(path)}) == 3
