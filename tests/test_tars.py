"""Tar files as folders: what is refused before anything of it is read, and members read where they are."""

import gzip
import os
import tarfile

import pytest
from video_files import write_tar

from keras_nonlocal.data.video import tars
from keras_nonlocal.errors import UserError


def member(kind):
    info = tarfile.TarInfo()
    info.type, info.linkname = kind, "a.mp4"
    return info


@pytest.mark.parametrize(
    "name, data, says",
    [
        ("b.mp4", member(tarfile.SYMTYPE), "holds b.mp4, a link, device or file with holes"),
        ("b.mp4", member(tarfile.LNKTYPE), "holds b.mp4, a link"),
        ("b.mp4", member(tarfile.CHRTYPE), "holds b.mp4, a link"),
        ("b.mp4", member(tarfile.FIFOTYPE), "holds b.mp4, a link"),
        ("../b.mp4", b"", "holds ../b.mp4, a path that leads out of its folder"),
        ("a/../../b.mp4", b"", "a path that leads out"),
        ("/etc/b.mp4", b"", "holds /etc/b.mp4, a path that leads out"),
    ],
)
def test_what_no_list_of_videos_needs_is_refused(tmp_path, name, data, says):
    write_tar(tmp_path / "x.tar", [("a.mp4", b"a"), (name, data)])
    with pytest.raises(UserError, match=says):
        tars.TarTree(str(tmp_path / "x.tar"))


def test_damaged_and_compressed_tars_are_named(tmp_path):
    path = tmp_path / "x.tar"
    write_tar(path, {"a.mp4": b"a" * 600, "b.mp4": b"b" * 600})
    data = path.read_bytes()
    cases = {
        data[:2300]: "cannot be read .unexpected end of data.; download it again",
        data[:1536] + b"x" + data[1537:]: "is damaged at byte 1536",
        b"nonsense": "cannot be read",
        b"": "cannot be read",
        gzip.compress(data): "is compressed, .* unpack it",
    }
    for content, says in cases.items():
        path.write_bytes(content)
        with pytest.raises(UserError, match=f"tar {path} {says}"):
            tars.TarTree(str(path))


def test_patterns(tmp_path):
    for number in (8, 9, 10):
        write_tar(tmp_path / f"x-{number:02d}.tar", {f"{number}.mp4": b"%d" % number})
    for pattern, wanted in (("x-{08..10}.tar", [8, 9, 10]), ("x-0?.tar", [8, 9]), ("x-{09..09}.tar", [9])):
        tree = tars.TarTree(str(tmp_path / pattern))
        assert [os.path.basename(path) for path in tree.files()] == [f"{number}.mp4" for number in wanted]
    for pattern, says in (("x-{08..11}.tar", "x-11.tar does not exist"), ("y-*.tar", "does not exist")):
        with pytest.raises(UserError, match=says):
            tars.TarTree(str(tmp_path / pattern))
    with pytest.raises(UserError, match="stands for more than 100,000 files"):
        tars.TarTree(str(tmp_path / "x-{0..999999999}.tar"))


def test_frames_of_a_folder_are_pieces(tmp_path):
    """In one piece where they lie side by side, in several where not, and in two tars."""
    long = "l" * 120  # whose name takes a header of its own
    write_tar(
        tmp_path / "x-0.tar",
        [("v/a/1.jpg", b"1"), (f"v/a/{long}2.jpg", b"2"), ("v/b/1.jpg", b"x"), ("v/a/3.jpg", b"3")],
    )
    write_tar(tmp_path / "x-1.tar", [("v/a/4.JPEG", b"4")])
    tree = tars.TarTree(str(tmp_path / "x-{0..1}.tar"))
    stored = tree.stored(f"{tree.root}/v/a")
    assert [(os.path.basename(tar), end > start) for tar, start, end in stored.parts] == [
        ("x-0.tar", True),
        ("x-0.tar", True),
        ("x-1.tar", True),
    ]
    assert list(stored.members()) == [("1.jpg", b"1"), (f"{long}2.jpg", b"2"), ("3.jpg", b"3"), ("4.JPEG", b"4")]
    assert tree.is_folder(f"{tree.root}/v/b") and tree.has_frames(f"{tree.root}/v/b")
    assert sorted(tree.names(f"{tree.root}/v")) == ["a", "b"] and list(tree.files()) == []
    assert tree.stored(f"{tree.root}/v") is None and tree.stored("/elsewhere") is None


def test_one_video_in_two_tars_is_refused_and_twice_in_one_the_last_counts(tmp_path):
    write_tar(tmp_path / "x-0.tar", [("a.mp4", b"old"), ("a.mp4", b"new")])
    write_tar(tmp_path / "x-1.tar", [("a.mp4", b"other")])
    tree = tars.TarTree(str(tmp_path / "x-0.tar"))
    assert list(tree.stored(f"{tree.root}/a.mp4").members()) == [("a.mp4", b"new")]
    with pytest.raises(UserError, match="a.mp4 is in tar .*x-0.tar and in .*x-1.tar; leave one of them out"):
        tars.TarTree(str(tmp_path / "x-*.tar"))


def test_a_tar_that_changes_meanwhile_is_noticed(tmp_path):
    path = tmp_path / "x.tar"
    write_tar(path, {"a.mp4": b"a" * 2000})
    tree = tars.TarTree(str(path))
    stored = tree.stored(f"{tree.root}/a.mp4")
    write_tar(path, {"b.mp4": b"b"})
    with pytest.raises(UserError, match="b.mp4 is there now.; if it has changed, run the command again"):
        list(stored.members())
    path.write_bytes(b"")
    with pytest.raises(UserError, match="cannot be read at byte 0"):
        list(stored.members())
