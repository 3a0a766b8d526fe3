"""Lists of several labels, without column names, without a list at all: each form as its users have it."""

import numpy as np
import pytest
from video_files import list_maker, write_tar

from keras_nonlocal.data import labels_file
from keras_nonlocal.data.video import lists
from keras_nonlocal.errors import UserError

CHARADES = """id,subject,scene,quality,relevance,verified,script,objects,descriptions,actions,length
AAAAA,S1,Kitchen,7,7,Yes,"He sits, then eats.",chair;food,A man eats.,c000 0.00 1.20;c002 0.80 2.00,2.00
BBBBB,S2,Bedroom,6,7,No,Nothing.,,Nothing happens.,,1.50
CCCCC,S2,Bedroom,6,7,No,Twice.,,Twice.,c002 0.00 0.50; c000 1.00 9.00 ;c002 0.70 0.90,1.50
"""
FRAME_LISTS = """original_vido_id video_id frame_id path labels
AAAAA 0 0 AAAAA/AAAAA-000001.jpg "0,2"
AAAAA 0 1 AAAAA/AAAAA-000002.jpg "2"
AAAAA 0 2 AAAAA/AAAAA-000003.jpg ""
AAAAA 0 3 AAAAA/AAAAA-000004.jpg "2"
BBBBB 1 0 BBBBB/BBBBB-000001.jpg ""
"""


@pytest.fixture
def make(tmp_path):
    return list_maker(tmp_path, "list.txt")


def refused(says, *arguments, **options):
    with pytest.raises(UserError) as raised:
        lists.read_list(*arguments, **options)
    assert says in str(raised.value) and "\n" not in str(raised.value), raised.value


# Charades.


def test_charades_has_actions_in_seconds(make):
    path, folder = make(CHARADES.replace("\n", "\r\n"), "AAAAA.mp4", "BBBBB/BBBBB-000001.jpg")
    a, b, c = lists.read_list(path, folder)[0]
    assert [video.path.removeprefix(folder) for video in (a, b, c)] == ["/AAAAA.mp4", "/BBBBB", "/CCCCC"]
    assert (a.indices, b.indices, c.indices) == ((0, 2), (), (0, 2))
    assert a.actions == (lists.Action(0, 0.0, 1.2), lists.Action(2, 0.8, 2.0)) and b.actions == ()
    assert c.actions == (lists.Action(2, 0.0, 0.5), lists.Action(0, 1.0, 9.0), lists.Action(2, 0.7, 0.9))
    assert lists.read_list(path, folder)[1] == ["c000", "c001", "c002"]


def test_charades_classes_are_found_by_their_codes(make, tmp_path):
    path, folder = make(CHARADES, "AAAAA.mp4")
    for order, wanted in ((("c000", "c001", "c002"), (0, 2)), (("c002", "c001", "c000"), (0, 2))):
        (tmp_path / "classes.txt").write_text("".join(f"{code} Holding {code}\n" for code in order))
        names = labels_file.read(tmp_path / "classes.txt")
        a, *_ = lists.read_list(path, folder, labels=names)[0]
        assert a.indices == wanted and a.labels == (f"{order[0]} Holding {order[0]}", f"{order[2]} Holding {order[2]}")
        assert a.actions[0].index == order.index("c000")
    refused(
        "line 2: label 'c002' is not one of the 2 class names", path, folder, labels=["c000 Holding", "c001 Sitting"]
    )


def test_charades_columns_go_by_their_names(make):
    path, folder = make("length,actions,id\n2.0,c001 0 1,AAAAA\n,c000 1 2;,BBBBB\n", "AAAAA.mp4")
    assert [video.indices for video in lists.read_list(path, folder)[0]] == [(1,), (0,)]
    path, folder = make("actions,id\nc001 0 1,AAAAA\n")
    assert lists.read_list(path, folder)[0][0].indices == (1,)


@pytest.mark.parametrize(
    "text, says",
    [
        ("id,actions\nA,c000 0\n", "line 2: action 'c000 0' is not a class, a start and an end, as in c092 11.90"),
        ("id,actions\nA,12 0 1\n", "line 2: action '12 0 1' is not a class"),
        ("id,actions\nA,c000 0 nan\n", "line 2: a time of c000 is 'nan' and must be a number of seconds"),
        ("id,actions\nA,c000 -1 2\n", "line 2: a time of c000 is '-1'"),
        ("id,actions\nA,\nA,\n", "lists video A twice, in lines 2 and 3"),
        ("actions\nc000 0 1\n", "has no column id (found: actions)"),
        (FRAME_LISTS.replace("000003", "000004"), "line 4: frame AAAAA/AAAAA-000004.jpg does not follow the frame"),
        (FRAME_LISTS.replace("AAAAA-000001", "AAAAA-000007"), "line 2: the first frame of a video is 0 or 1"),
        (FRAME_LISTS.replace(' ""', ""), "line 4, has 4 cells and there are 5 columns"),
        ("original_vido_id path\n", "is no list of frames; its first line must be original_vido_id video_id frame_id"),
        (FRAME_LISTS.partition("\n")[0], "has no row below its column names; add one row for each frame"),
        (FRAME_LISTS.replace('"2"', '"run"'), "is a number and label 'run' of line 2 is a name"),
    ],
)
def test_a_bad_list_of_charades_is_named(make, text, says):
    refused(says, *make(text, "A.mp4", "AAAAA/AAAAA-000001.jpg"))


def test_frame_lists_become_runs_of_frames(make):
    path, folder = make(FRAME_LISTS, "AAAAA/AAAAA-000001.jpg")
    (a, b), names = lists.read_list(path, folder)
    assert (a.path, a.frames, b.frames, names) == (f"{folder}/AAAAA", 4, 1, ["0", "1", "2"])
    assert (a.indices, b.indices, a.actions_in) == ((0, 2), (), "frames")
    assert a.action_frames(4, 24.0) == [(0, 0, 0), (2, 0, 1), (2, 3, 3)] and b.action_frames(1, 24.0) == []


@pytest.mark.parametrize("rate", [24.0, 30.0, 29.97, 12.5])
def test_frames_of_actions_are_those_whose_moment_is_in_them(rate):
    """Against the definition, frame by frame: frame i is at i / rate."""
    random = np.random.default_rng(int(rate))
    for _ in range(40):
        count = int(random.integers(1, 80))
        actions = [
            lists.Action(int(random.integers(5)), *(round(float(time), 2) for time in random.uniform(0, 4, 2)))
            for _ in range(6)
        ]
        actions.append(lists.Action(1, 10 / rate, 20 / rate))  # both ends are frames
        video = lists.LabelledVideo("a", "a", (), (), tuple(actions))
        wanted = []
        for action in actions:
            shown = [i for i in range(count) if action.start <= i / rate <= action.end]
            wanted += [(action.index, shown[0], shown[-1])] if shown else []
        assert video.action_frames(count, rate) == wanted


# Lists without column names.


def read(make, text, *files, **options):
    path, folder = make(text, *files)
    return [
        (video.path.removeprefix(f"{folder}/"), video.indices, video.first_frame, video.frames)
        for video in lists.read_list(path, folder, **options)[0]
    ]


@pytest.mark.parametrize("separator", [" ", "\t", ",", ", ", ";", "   ", " | "])
def test_a_path_and_a_label(make, separator):
    text = f'\ufeffa b\'s "c".mp4{separator}3\r\n\r\n\u00fcber.mp4{separator}0\r\n'
    assert read(make, text, "\u00fcber.mp4") == [('a b\'s "c".mp4', (3,), 0, None), ("\u00fcber.mp4", (0,), 0, None)]


@pytest.mark.parametrize(
    "list_format, wanted",
    [
        ("path_label", ("v/a 100 250", (3,), 0, None)),
        ("path_labels", ("v/a", (3, 100, 250), 0, None)),
        ("path_frames_labels", ("v/a", (3, 250), 0, 100)),
        ("path_start_frames_labels", ("v/a", (3,), 100, 250)),
    ],
)
def test_what_several_numbers_are_is_said_or_asked_for(make, list_format, wanted):
    text = "v/a 100 250 3\n"
    files = ("v/a/img_00001.jpg", "v/a 100 250.mp4")
    found = read(make, text, *files, list_format=list_format)
    assert [(found[0][0].removesuffix(".mp4"), *found[0][1:])] == [wanted]
    says = "line 1: 'v/a 100 250 3' has 3 numbers after its path; say with --list_format whether they are labels"
    refused(says, *make(text))


def test_parts_of_one_folder_are_several_videos(make):
    path, folder = make("a 0 10 1\na 10 10 2\n", "a/img_00001.jpg")
    listed, _ = lists.read_list(path, folder, list_format="path_start_frames_labels")
    assert [video.name for video in listed] == ["a from frame 0", "a from frame 10"]
    path, folder = make("a 10 1\na 12 2\n")
    refused("lists video a twice, in lines 1 and 2", path, folder, list_format="path_frames_labels")


@pytest.mark.parametrize(
    "text, options, says",
    [
        ("a.mp4 1\nb.mp4\n", {}, "line 2: 'b.mp4' is not a path and 1 number, the last one that of its class"),
        ("a.mp4 1\n7\n", {}, "line 2: '7' is not a path and 1 number"),
        ("a.mp4 1\nb.mp4 -1\n", {}, "line 2: label -1 is out of range"),
        ("a.mp4 1\nb.mp4 2\n", {"labels": ["x", "y"]}, "line 2: label 2 is out of range; there are 2 classes, 0 to 1"),
        ("a.mp4 1\n", {"list_format": "path_frames_labels"}, "line 1: 'a.mp4 1' is not a path and 2 numbers"),
        ("a 0 1\n", {"list_format": "path_frames_labels"}, "line 1: 0 frames from frame 0 on are no part of a video"),
        ("a -5 2 1\n", {"list_format": "path_start_frames_labels"}, "2 frames from frame -5 on are no part"),
        ("a.mp4 1\na.mp4 1\n", {}, "lists video a.mp4 twice, in lines 1 and 2"),
        ("a.mp4,1\nb.mp4 1\n", {}, "line 2: 'b.mp4 1' is not a path and 1 number"),
        ("a.mp4\nb.mp4\n", {}, "or each of its lines must end in the number of a class"),
        ("a.mp4 1\n" + "b" * 11_000 + " 1\n", {}, "line 2, has more than 10,000 characters"),
        ("path,label\na.mp4,x\n", {"list_format": "charades"}, "has no column id, actions (found: path, label)"),
    ],
)
def test_a_bad_list_without_columns_is_named(make, text, options, says):
    refused(says, *make(text, "a.mp4"), **options)


# No list.


def test_folders_are_the_classes(make):
    files = ("b c/1.mp4", "a/2.MKV", "Z/3/img_00001.jpg", "a/2.txt", "a/.hidden.mp4", "a/empty/x.txt", ".git/x.mp4")
    _, folder = make("", *files, "loose.mp4")
    listed, names = lists.read_list(None, folder, "train")
    assert names == ["Z", "a", "b c"]
    assert [(video.name, video.indices) for video in listed] == [("Z/3", (0,)), ("a/2.MKV", (1,)), ("b c/1.mp4", (2,))]
    refused("is a folder; leave --list out and give the folder of classes as --videos", folder, folder)
    refused("holds no folders of classes with videos in them", None, f"{folder}/a")


def shards(folder):
    """Two shards of a webdataset: labels as index, as name of a file of one's own and as lists."""
    write_tar(
        folder / "x-000.tar",
        {"./a/1.mp4": b"v1", "./a/1.cls": b"2\n", "./a/2.x.txt": b"", "./a/2.CLS": b"0", "./a/2.mp4": b"v2"},
    )
    write_tar(
        folder / "x-001.tar",
        {
            "a/3.json": b'{"labels": [1, 0, 1], "label": 9}',
            "a/3.mp4": b"v3",
            "a/4.mp4": b"v4",
            "a/4.json": b'{"labels": []}',
        },
    )
    return str(folder / "x-{000..001}.tar")


def test_tar_shards_hold_their_labels(tmp_path):
    pattern = shards(tmp_path)
    listed, names = lists.read_list(None, pattern)
    assert names == ["0", "1", "2"]
    assert [(video.name, video.indices) for video in listed] == [
        ("a/1.mp4", (2,)),
        ("a/2.mp4", (0,)),
        ("a/3.mp4", (0, 1)),
        ("a/4.mp4", ()),
    ]
    assert [list(video.stored.members()) for video in listed] == [[(f"{n}.mp4", b"v%d" % n)] for n in (1, 2, 3, 4)]
    assert [video.path for video in listed][2] == f"{tmp_path}/x-001.tar/a/3.mp4"
    assert lists.read_list(None, str(tmp_path / "x-*.tar"))[0][0].indices == (2,)
    assert lists.read_list(None, pattern, labels=["sit", "run", "walk"])[0][0].labels == ("walk",)


@pytest.mark.parametrize(
    "members, says",
    [
        ({"1.mp4": b"", "2.cls": b"0"}, "sample 1, has neither .cls nor .json; add its label"),
        ({"1.mp4": b"", "1.mkv": b"", "1.cls": b"0"}, "holds 2 videos; keep one of them"),
        ({"1.mp4": b"", "1.cls": b" \n"}, "sample 1: its .cls holds an empty label"),
        ({"1.mp4": b"", "1.cls": b"\xff"}, "sample 1: its .cls is not valid"),
        ({"1.mp4": b"", "1.json": b"{"}, "sample 1: its .json is not valid"),
        ({"1.mp4": b"", "1.json": b'{"text": "x"}'}, "it needs `label`, the index or the name of a class"),
        ({"1.mp4": b"", "1.json": b'{"label": true}'}, "it needs `label`"),
        ({"1.cls": b"0"}, "holds no sample with a video"),
    ],
)
def test_a_bad_sample_is_named(tmp_path, members, says):
    write_tar(tmp_path / "x.tar", members)
    refused(says, None, str(tmp_path / "x.tar"))


def test_the_files_of_a_list_are_found_in_a_tar(make, tmp_path):
    """Also where everything in it lies in one folder, as tars of whole folders have it."""
    path, _ = make("label,youtube_id,time_start,time_end\nride a bike,x,0,10\nrun,y,0,10\nrun,z,0,10\n")
    members = {"k400/train/ride_a_bike/x_000000_000010.mp4": b"x", "k400/train/y_000000_000010.webm": b"y"}
    write_tar(tmp_path / "k.tar", members)
    (x, y, z), _ = lists.read_list(path, str(tmp_path / "k.tar"))
    assert (list(x.stored.members()), list(y.stored.members())) == (
        [("x_000000_000010.mp4", b"x")],
        [("y_000000_000010.webm", b"y")],
    )
    assert z.stored is None and not z.exists()
    path, _ = make("ride_a_bike/x_000000_000010.mp4 0\nk400/train/y_000000_000010.webm 1\n")
    assert all(video.stored for video in lists.read_list(path, str(tmp_path / "k.tar"))[0])
