"""Files appear whole or not at all."""

import errno
import os
from pathlib import Path

import pytest

from pianofarm.destination import arriving, check_writable
from pianofarm_common.errors import BadOption, DiskFull


def test_a_file_arrives_when_the_block_ends_well(tmp_path):
    with arriving(tmp_path / "a.wav") as temporary:
        temporary.write_bytes(b"audio")
        assert not (tmp_path / "a.wav").exists()
    assert (tmp_path / "a.wav").read_bytes() == b"audio"
    assert os.listdir(tmp_path) == ["a.wav"]


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt()])
def test_an_interrupted_file_leaves_the_old_one_and_nothing_else(tmp_path, error):
    (tmp_path / "a.wav").write_bytes(b"old")
    with pytest.raises(type(error)), arriving(tmp_path / "a.wav") as temporary:
        temporary.write_bytes(b"half")
        raise error
    assert (tmp_path / "a.wav").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.wav"]


def test_a_full_disk_is_transient_and_leaves_nothing(tmp_path):
    with pytest.raises(DiskFull, match="nothing was left behind"), arriving(tmp_path / "a.wav") as temporary:
        temporary.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_device_without_room_says_so(tmp_path):
    with pytest.raises(DiskFull), arriving(tmp_path / "a.wav") as temporary:
        temporary.symlink_to("/dev/full")
        with temporary.open("wb", buffering=0) as file:
            file.write(b"audio")


def test_a_folder_is_no_place_for_a_file(tmp_path):
    with pytest.raises(BadOption, match="is a folder"):
        check_writable(tmp_path)


def test_a_device_is_never_replaced_by_a_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(BadOption, match="a device or a pipe"):
        check_writable(tmp_path / "pipe")


def test_missing_folders_are_made(tmp_path):
    check_writable(tmp_path / "new" / "deep" / "a.wav")
    assert os.listdir(tmp_path / "new" / "deep") == []


def test_a_place_below_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(BadOption, match="cannot make the folder"):
        check_writable(tmp_path / "file" / "a.wav")


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a file system that even root cannot write to")
def test_a_read_only_file_system_is_refused():
    with pytest.raises(BadOption, match="cannot write"):
        check_writable(Path("/proc/a.wav"))
