"""CSV files of videos: the two forms, labels and splits, and one clear sentence for whatever is wrong with them."""

import unicodedata

import pytest
from video_files import list_maker

from keras_nonlocal.data import labels_file
from keras_nonlocal.data.video import lists
from keras_nonlocal.errors import UserError

KINETICS = "label,youtube_id,time_start,time_end,split\n"


@pytest.fixture
def make(tmp_path):
    return list_maker(tmp_path, "list.csv")


def indices(videos):
    """The class of each video of a list that has one."""
    return [index for video in videos for index in video.indices]


def refused(make, text, *files, says, split=None, labels=None):
    csv, folder = make(text, *files)
    with pytest.raises(UserError) as raised:
        lists.read_list(csv, folder, split, labels)
    message = str(raised.value)
    assert csv in message and says in message, message
    assert "\n" not in message


def test_kinetics_names_folders_and_extensions(make):
    csv, folder = make(
        KINETICS + "riding a bike,-aB_9,7,17,train\nabseiling,x1,120,130,train\nabseiling,x2,0,10,train\n",
        "riding a bike/-aB_9_000007_000017.webm",
        "x1_000120_000130.mp4",
    )
    listed, labels = lists.read_list(csv, folder, "train")
    assert labels == ["abseiling", "riding a bike"]
    assert [(video.name, video.path.removeprefix(folder), video.labels, video.indices) for video in listed] == [
        ("-aB_9_000007_000017", "/riding a bike/-aB_9_000007_000017.webm", ("riding a bike",), (1,)),
        ("x1_000120_000130", "/x1_000120_000130.mp4", ("abseiling",), (0,)),
        ("x2_000000_000010", "/x2_000000_000010.mp4", ("abseiling",), (0,)),  # Missing: the reader of videos says so.
    ]


def paths(make, text, *files, labels=None):
    csv, folder = make(text, *files)
    return [video.path.removeprefix(folder + "/") for video in lists.read_list(csv, folder, labels=labels)[0]]


@pytest.mark.parametrize(
    "file",
    [f"x_000000_000010{extension}" for extension in (".mp4", ".mkv", ".webm", ".avi", ".mov", ".m4v", ".MP4", ".Mov")]
    + ["x_000000_000010.mp4.mkv", "x_000000_000010.mp4.webm", "riding a bike/x_000000_000010.mp4"]
    + ["riding_a_bike/x_000000_000010.mp4", "Riding-a-bike/x_000000_000010.mp4", "RidingABike/x_000000_000010.MP4"],
)
def test_kinetics_files_by_any_name_they_are_given(make, file):
    others = ("x_000000_000010.mp4.part", "x_000000_0000100.mp4", "X_000000_000010.mp4", "riding/x_000000_000010.mp4")
    assert paths(make, KINETICS + "riding a bike,x,0,10,train\n", file, *others) == [file]


def test_a_folder_of_frames_is_no_video(make):
    files = ("x_000000_000010/1.jpg", "x_000000_000010.mp4")
    assert paths(make, KINETICS + "a,x,0,10,train\n", *files) == ["x_000000_000010.mp4"]


def test_a_folder_may_have_the_name_of_the_class_where_the_list_has_its_index(make):
    text = KINETICS + "1.0,x,0,10,train\n"
    assert paths(make, text, "run_fast/x_000000_000010.mp4", labels=["walk", "run fast"]) == [
        "run_fast/x_000000_000010.mp4"
    ]


@pytest.mark.parametrize("file", ["a.mp4", "a.MP4", "a.mp4.mkv"])
def test_a_path_with_another_extension_on_the_disk(make, file):
    assert paths(make, "path,label\nsub/a.mp4,walk\n", f"sub/{file}", "sub/b.mp4", "sub/A.mp4") == [f"sub/{file}"]


def test_a_path_that_is_there_is_taken_whatever_else_is(make):
    text = "path,label\na.mp4,x\na.mp4.mkv,x\nb.MP4,x\n"
    assert paths(make, text, "a.mp4", "a.mp4.mkv", "b.MP4", "b.mp4") == ["a.mp4", "a.mp4.mkv", "b.MP4"]


@pytest.mark.parametrize("listed, there", [("NFC", "NFD"), ("NFD", "NFC")])
def test_names_are_the_same_in_every_normalisation(make, listed, there):
    def path(form):
        return unicodedata.normalize(form, "caf\u00e9/\u00fcber.mp4")

    label = unicodedata.normalize(listed, "caf\u00e9")
    assert paths(make, f"path,label\n{path(listed)},x\n", path(there)) == [path(there)]
    text = KINETICS + f"{label},x,0,10,train\n"
    folder = unicodedata.normalize(there, "caf\u00e9")
    assert paths(make, text, f"{folder}/x_000000_000010.mp4") == [f"{folder}/x_000000_000010.mp4"]


def test_labels_are_the_same_in_every_normalisation(make, tmp_path):
    nfc, nfd = (unicodedata.normalize(form, "caf\u00e9") for form in ("NFC", "NFD"))
    csv, folder = make(f"path,label\na.mp4,{nfc}\nb.mp4,{nfd}\n", "a.mp4")
    assert lists.read_list(csv, folder)[1] == [nfc]
    (tmp_path / "labels.txt").write_text(f"tea\n{nfd}\n", encoding="utf-8")
    for labels in (labels_file.read(tmp_path / "labels.txt"), ["tea", nfd]):
        assert indices(lists.read_list(csv, folder, labels=labels)[0]) == [1, 1]


@pytest.mark.parametrize("folder", ["", "train/"])
def test_repaired_files_of_kinetics_win(make, folder):
    files = (f"{folder}x_000000_000010.mp4", "replacement/replacement_for_corrupted_k400/x_000000_000010.mp4")
    csv, videos = make(KINETICS + "a b,x,0,10,train\n", *files, f"{folder}a b/x_000000_000010.mp4")
    (video,), _ = lists.read_list(csv, f"{videos}/{folder}")
    assert video.path == f"{videos}/{files[1]}"


def test_all_column_sets_of_kinetics(make):
    rows = ("air drumming", "_dbc-uKJ_Ns", "40", "50", "val", "0")
    names = ("label", "youtube_id", "time_start", "time_end", "split", "is_cc")
    for count in (4, 5, 6):
        text = f'{",".join(names[:count])}\n"{rows[0]}",{",".join(rows[1:count])}\n'
        csv, folder = make(text, "air_drumming/_dbc-uKJ_Ns_000040_000050.mp4")
        (video,), labels = lists.read_list(csv, folder, "validate")
        assert video.path == f"{folder}/air_drumming/_dbc-uKJ_Ns_000040_000050.mp4" and labels == ["air drumming"]


def test_classes_are_in_the_order_of_their_characters(make):
    names = ["passing american football (not in game)", "zumba", "passing American football (in game)", "Zorbing"]
    text = KINETICS + "".join(f'"{name}",{number},0,10,train\n' for number, name in enumerate(names))
    csv, folder = make(text, "0_000000_000010.mp4")
    assert lists.read_list(csv, folder)[1] == [names[3], names[2], names[0], names[1]]


@pytest.mark.parametrize(
    "text, files, says",
    [
        (KINETICS + "a b,x,0,10,train\n", ("x_000000_000010.mp4", "x_000000_000010.webm"), "line 2: video x_000000_0"),
        (KINETICS + "a b,x,0,10,train\n", ("x_000000_000010.mp4", "a b/x_000000_000010.mp4"), "may be any of 2 files"),
        (KINETICS + "a b,x,0,10,train\n", ("a b/x_000000_000010.mp4", "a_b/x_000000_000010.mp4"), "any of 2 files"),
        (KINETICS + "a b,x,0,10,train\n", ("x_000000_000010.mp4", "x_000000_000010.MP4"), "any of 2 files"),
        ("path,label\na.mp4,x\n", ("a.MP4", "a.mp4.mkv"), "line 2: video a.mp4 may be any of 2 files"),
        ("path,label\na.mp4,x\na.MP4,y\n", ("a.mp4",), "twice, in lines 2 and 3"),
    ],
)
def test_two_files_for_one_video_are_told(make, text, files, says):
    refused(make, text, *files, says=says)


def test_path_and_label(make, tmp_path):
    csv, folder = make(f"path,label\nsub/./a.mp4,walk\n{tmp_path}/videos/b.avi,run\n", "sub/a.mp4", "b.avi")
    listed, labels = lists.read_list(csv, folder, "train")  # Without a split column the split only names shards.
    assert labels == ["run", "walk"]
    assert [video.path for video in listed] == [f"{folder}/sub/a.mp4", f"{folder}/b.avi"]
    assert indices(listed) == [1, 0]


def test_split_keeps_its_rows_and_all_labels(make):
    csv, folder = make("path,label,split\na.mp4,c,train\nb.mp4,a,val\nd.mp4,b,test\n", "a.mp4", "b.mp4", "d.mp4")
    listed, labels = lists.read_list(csv, folder, "val")
    assert [video.name for video in listed] == ["b.mp4"]
    assert labels == ["a", "b", "c"]


@pytest.mark.parametrize("split", ["val", "validate", "validation"])
def test_three_names_of_one_split(make, split):
    csv, folder = make("path,label,split\na.mp4,x,validate\nb.mp4,x,val\nc.mp4,x,train\nd.mp4,x,validation\n", "a.mp4")
    assert [video.name for video in lists.read_list(csv, folder, split)[0]] == ["a.mp4", "b.mp4", "d.mp4"]


def test_labels_file_gives_the_order(make, tmp_path):
    csv, folder = make("path,label\na.mp4,walk\n", "a.mp4")
    (tmp_path / "labels.txt").write_text("walk\nrun\n\n")
    labels = labels_file.read(tmp_path / "labels.txt")
    assert labels == ["walk", "run"]
    assert lists.read_list(csv, folder, labels=labels)[0][0].indices == (0,)


@pytest.mark.parametrize("text", ["walk\rrun\r", "\ufeffwalk\r\nrun\r\n", " walk \nrun"])
def test_labels_files_of_other_systems(tmp_path, text):
    (tmp_path / "labels.txt").write_text(text, encoding="utf-8", newline="")
    assert labels_file.read(tmp_path / "labels.txt") == ["walk", "run"]


def test_integer_labels_are_the_indices(make):
    # Sorted as text "10" would come before "2".
    csv, folder = make("path,label\na.mp4,10\nb.mp4,2\n", "a.mp4", "b.mp4")
    listed, labels = lists.read_list(csv, folder)
    assert indices(listed) == [10, 2]
    assert labels == [str(index) for index in range(11)]


def test_integer_labels_with_a_labels_file(make):
    csv, folder = make("path,label\na.mp4,1\n", "a.mp4")
    (video,), _ = lists.read_list(csv, folder, labels=["walk", "run"])
    assert (video.labels, video.indices) == (("run",), (1,))


@pytest.mark.parametrize("form", ["{}.0", "{}.", "{}.000", "+{}", "0{}", " {} ", '"{}.0"'])
def test_integer_labels_that_went_through_a_table_of_floats(make, form):
    rows = [f"{index}.mp4,{form.format(index)}\n" for index in (2, 10, 0, 9)]
    csv, folder = make("path,label\n" + "".join(rows), "2.mp4")
    listed, labels = lists.read_list(csv, folder)
    assert [(video.indices, video.labels) for video in listed] == [((i,), (str(i),)) for i in (2, 10, 0, 9)]
    assert labels == [str(index) for index in range(11)]
    names = [f"class {index}" for index in range(11)]
    assert [video.labels for video in lists.read_list(csv, folder, labels=names)[0]][:2] == [
        ("class 2",),
        ("class 10",),
    ]
    # Names that are integers are names: "2" is in the first line, whatever its number.
    assert indices(lists.read_list(csv, folder, labels=["2", "9", "10", "0"])[0]) == [0, 2, 3, 1]


def test_a_label_missing_in_another_split_is_no_class(make):
    csv, folder = make("path,label,split\na.mp4,1.0,train\nb.mp4,,test\nc.mp4,nan,test\n", "a.mp4")
    (video,), labels = lists.read_list(csv, folder, "train")
    assert (video.indices, labels) == ((1,), ["0", "1"])


@pytest.mark.parametrize(
    "label, says",
    [
        ("", "line 3, has no label"),
        ("nan", "line 3, has no label but 'nan'"),
        ("NaN", "line 3, has no label but 'NaN'"),
        ("<NA>", "line 3, has no label but '<NA>'"),
        ("2.5", "line 3: label '2.5' is a number and no class index; it must be 0 to 99999"),
        ("1e1", "line 3: label '1e1' is a number and no class index"),
        ("1_0", "line 3: label '1_0' is a number and no class index"),
        ("\u0661", "line 3: label '\u0661' is a number and no class index"),
        ("inf", "line 3: label 'inf' is a number and no class index"),
        ("1" * 5000, "is a number and no class index"),
        ("-1.0", "line 3: label -1 is out of range; it must be 0 to 99999"),
        ("100000.0", "line 3: label 100000 is out of range"),
        ("walk", "line 2: label '1' is a number and label 'walk' of line 3 is a name"),
        ('"wa\nlk"', "line 4: 'wa\\nlk' holds a line break"),
        ("wa\u2028lk", "holds a line break"),
        ("wa\x00lk", "holds a line break or another control character"),
        ("wa\x85lk", "holds a line break or another control character"),
    ],
)
def test_a_label_among_integers_that_is_none(make, label, says):
    refused(make, f"path,label\na.mp4,1\nb.mp4,{label}\n", "a.mp4", says=says)


def test_integers_that_are_not_among_names_that_are_integers(make):
    text = "path,label\na.mp4,0\n"
    refused(make, text, "a.mp4", labels=["5", "3"], says="line 2: label '0' is not one of the 2 class names")


def test_spreadsheet_exports(make):
    # A byte-order mark, CRLF, spaces, quotes with a comma, empty lines, more columns.
    csv, folder = make('\ufeffpath, label ,extra\r\n"a,1.mp4", "pull, push",\r\n,,\r\n\r\n', "a,1.mp4")
    (video,), labels = lists.read_list(csv, folder)
    assert (video.name, video.labels, labels) == ("a,1.mp4", ("pull, push",), ["pull, push"])


def test_no_such_csv(tmp_path):
    with pytest.raises(UserError, match="nothing.csv cannot be read .No such file"):
        lists.read_list(tmp_path / "nothing.csv", tmp_path)


def test_a_binary_file_as_csv(tmp_path):
    (tmp_path / "x.csv").write_bytes(b"\xff\xfe\x00path")
    with pytest.raises(UserError, match="x.csv is not UTF-8 text; save it as UTF-8"):
        lists.read_list(tmp_path / "x.csv", tmp_path)


@pytest.mark.parametrize(
    "text, says",
    [
        ("", "is empty; its first line names the columns"),
        ("\n\n", "is empty"),
        ("path,label\n", "has no row below its column names"),
        ("path,class\na.mp4,x\n", "has no column label (found: path, class)"),
        (
            "label,youtube_id,start,end\nx,y,0,1\n",
            "no column time_start, time_end (found: label, youtube_id, start, end)",
        ),
        (
            "youtube_id,time_start,time_end,split\nx,0,10,test\n",
            "as Kinetics' test lists have none; give the list of a",
        ),
        ("video;label\na.mp4;x\n", "has no column label, youtube_id, time_start, time_end (found: video;label)"),
        ("path,label\na.mp4\n", "line 2, has no label"),
        ("path,label\n,x\n", "line 2, has no path"),
        ("path,label\na.mp4,pull, push\n", "line 2, has 3 cells and there are 2 columns"),
        ("path,label,label\na.mp4,x,y\n", "names the column 'label' 2 times"),
        ("pa\nth,label\na.mp4,x\n", "has no column"),
        ('"pa\nth",label\na.mp4,x\n', "(found: 'pa\\nth', label)"),
        ('path,label\n"a\n.mp4",x\n', "line 3: 'a\\n.mp4' holds a line break"),
        (KINETICS + '"a\nb",id,0,10,train\n', "line 3: 'a\\nb' holds a line break"),
        (KINETICS + "x,id,-1,10,train\n", "line 2: time_start is '-1' and must be a number of seconds"),
        (KINETICS + "x,id,0,nan,train\n", "line 2: time_end is 'nan' and must be a number of seconds"),
        (KINETICS + "x,id,0,1e300,train\n", "line 2: time_end is '1e300' and must be a number of seconds"),
        (KINETICS + "x,id,zero,10,train\n", "line 2: time_start is 'zero' and must be a number of seconds"),
        ("path,label\na.mp4,x\nb.mp4,x\n./a.mp4,y\n", "lists video a.mp4 twice, in lines 2 and 4"),
        ('path,label\n"a.mp4,x\n', "is not valid"),
        ("path,label\na.mp4,1\nb.mp4,-1\n", "line 3: label -1 is out of range; it must be 0 to 99999"),
        ("path,label\na.mp4,1000000000\n", "line 2: label 1000000000 is out of range"),
    ],
)
def test_a_bad_csv_is_named(make, text, says):
    refused(make, text, "a.mp4", says=says)


def test_unknown_split_names_those_there_are(make):
    text = "path,label,split\na.mp4,x,train\nb.mp4,x,validate\nc.mp4,x,train\n"
    refused(make, text, "a.mp4", split="test", says="no row of split 'test'; its splits are train (2 rows), validate")
    refused(make, "path,label,split\na.mp4,x\n", "a.mp4", split="test", says="'test'; its splits are  (1 rows)")


def test_unknown_labels_name_their_row(make):
    text = "path,label\na.mp4,walk\nb.mp4,swim\n"
    refused(make, text, "a.mp4", labels=["run", "walk"], says="line 3: label 'swim' is not one of the 2 class names")
    text = "path,label\na.mp4,walk\nb.mp4,2\n"
    refused(make, text, "a.mp4", labels=["run", "walk"], says="line 3: label 2 is out of range; there are 2 classes")


def test_a_wrong_videos_folder(make, tmp_path):
    text = KINETICS + "x,a,0,10,train\nx,b,0,10,train\n"
    refused(make, text, "other.mp4", says="none of the 2 videos of")
    csv, _ = make(text)
    with pytest.raises(UserError, match="nowhere does not exist"):
        lists.read_list(csv, tmp_path / "nowhere")


@pytest.mark.parametrize(
    "text, says",
    [
        ("", "is empty; write one class name a line"),
        ("walk\n\nrun\n", "line 2, is empty"),
        ("walk\nrun\nwalk\n", "names 'walk' 2 times"),
        ("caf\u00e9\ncafe\u0301\n", "names 'caf\u00e9' 2 times"),
        ("walk\nru\x0bn\n", "line 2: 'ru\\x0bn' holds a line break"),
        ("walk\nru\u2028n\n", "line 2: 'ru\\u2028n' holds a line break"),
    ],
)
def test_a_bad_labels_file(tmp_path, text, says):
    (tmp_path / "labels.txt").write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as raised:
        labels_file.read(tmp_path / "labels.txt")
    assert says in str(raised.value) and "labels.txt" in str(raised.value)
