"""CSV files of videos: the two forms, labels and splits, and one clear sentence for whatever is wrong with them."""

import pytest

from keras_nonlocal import errors
from keras_nonlocal.data import video_lists

KINETICS = "label,youtube_id,time_start,time_end,split\n"


@pytest.fixture
def make(tmp_path):
    """make(csv text, *files in the videos folder) -> (csv path, videos folder)."""

    def make(text, *files):
        for file in files:
            path = tmp_path / "videos" / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        csv = tmp_path / "list.csv"
        csv.write_text(text, encoding="utf-8")
        return str(csv), str(tmp_path / "videos")

    return make


def refused(make, text, *files, says, split=None, labels=None):
    csv, folder = make(text, *files)
    with pytest.raises(video_lists.ListError) as raised:
        video_lists.read_list(csv, folder, split, labels)
    message = str(raised.value)
    assert isinstance(raised.value, errors.UserError)
    assert csv in message and says in message, message
    assert "\n" not in message


def test_kinetics_names_folders_and_extensions(make):
    csv, folder = make(
        KINETICS + "riding a bike,-aB_9,7,17,train\nabseiling,x1,120,130,train\nabseiling,x2,0,10,train\n",
        "riding a bike/-aB_9_000007_000017.webm",
        "x1_000120_000130.mp4",
    )
    listed, labels = video_lists.read_list(csv, folder, "train")
    assert labels == ["abseiling", "riding a bike"]
    assert [(video.name, video.path.removeprefix(folder), video.label, video.index) for video in listed] == [
        ("-aB_9_000007_000017", "/riding a bike/-aB_9_000007_000017.webm", "riding a bike", 1),
        ("x1_000120_000130", "/x1_000120_000130.mp4", "abseiling", 0),
        ("x2_000000_000010", "/x2_000000_000010.mp4", "abseiling", 0),  # Missing: the reader of videos says so.
    ]


@pytest.mark.parametrize("extension", [".mp4", ".mkv", ".webm", ".avi"])
def test_every_extension_is_found(make, extension):
    csv, folder = make(KINETICS + "a,x,0,10,train\n", f"x_000000_000010{extension}")
    assert video_lists.read_list(csv, folder)[0][0].path.endswith(extension)


def test_path_and_label(make, tmp_path):
    csv, folder = make(f"path,label\nsub/./a.mp4,walk\n{tmp_path}/videos/b.avi,run\n", "sub/a.mp4", "b.avi")
    listed, labels = video_lists.read_list(csv, folder, "train")  # Without a split column the split only names shards.
    assert labels == ["run", "walk"]
    assert [video.path for video in listed] == [f"{folder}/sub/a.mp4", f"{folder}/b.avi"]
    assert [video.index for video in listed] == [1, 0]


def test_split_keeps_its_rows_and_all_labels(make):
    csv, folder = make("path,label,split\na.mp4,c,train\nb.mp4,a,val\nd.mp4,b,test\n", "a.mp4", "b.mp4", "d.mp4")
    listed, labels = video_lists.read_list(csv, folder, "val")
    assert [video.name for video in listed] == ["b.mp4"]
    assert labels == ["a", "b", "c"]


def test_labels_file_gives_the_order(make, tmp_path):
    csv, folder = make("path,label\na.mp4,walk\n", "a.mp4")
    (tmp_path / "labels.txt").write_text("walk\nrun\n\n")
    labels = video_lists.read_labels(tmp_path / "labels.txt")
    assert labels == ["walk", "run"]
    assert video_lists.read_list(csv, folder, labels=labels)[0][0].index == 0


def test_integer_labels_are_the_indices(make):
    # Sorted as text "10" would come before "2".
    csv, folder = make("path,label\na.mp4,10\nb.mp4,2\n", "a.mp4", "b.mp4")
    listed, labels = video_lists.read_list(csv, folder)
    assert [video.index for video in listed] == [10, 2]
    assert labels == [str(index) for index in range(11)]


def test_integer_labels_with_a_labels_file(make):
    csv, folder = make("path,label\na.mp4,1\n", "a.mp4")
    (video,), _ = video_lists.read_list(csv, folder, labels=["walk", "run"])
    assert (video.label, video.index) == ("run", 1)


def test_spreadsheet_exports(make):
    # A byte-order mark, CRLF, spaces, quotes with a comma, empty lines, more columns.
    csv, folder = make('\ufeffpath, label ,extra\r\n"a,1.mp4", "pull, push",\r\n,,\r\n\r\n', "a,1.mp4")
    (video,), labels = video_lists.read_list(csv, folder)
    assert (video.name, video.label, labels) == ("a,1.mp4", "pull, push", ["pull, push"])


def test_no_such_csv(tmp_path):
    with pytest.raises(video_lists.ListError, match="nothing.csv cannot be read .No such file"):
        video_lists.read_list(tmp_path / "nothing.csv", tmp_path)


def test_a_binary_file_as_csv(tmp_path):
    (tmp_path / "x.csv").write_bytes(b"\xff\xfe\x00path")
    with pytest.raises(video_lists.ListError, match="x.csv is not UTF-8 text; save it as UTF-8"):
        video_lists.read_list(tmp_path / "x.csv", tmp_path)


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
        ("video;label\na.mp4;x\n", "has no column label, youtube_id, time_start, time_end (found: video;label)"),
        ("path,label\na.mp4\n", "line 2, has no label"),
        ("path,label\n,x\n", "line 2, has no path"),
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
    refused(make, text, "a.mp4", split="val", says="no row of split 'val'; its splits are train (2 rows), validate (1")


def test_unknown_labels_name_their_row(make):
    text = "path,label\na.mp4,walk\nb.mp4,swim\n"
    refused(make, text, "a.mp4", labels=["run", "walk"], says="line 3: label 'swim' is not one of the 2 class names")
    text = "path,label\na.mp4,walk\nb.mp4,2\n"
    refused(make, text, "a.mp4", labels=["run", "walk"], says="line 3: label 2 is out of range; there are 2 classes")


def test_a_wrong_videos_folder(make, tmp_path):
    text = KINETICS + "x,a,0,10,train\nx,b,0,10,train\n"
    refused(make, text, "other.mp4", says="none of the 2 videos of")
    csv, _ = make(text)
    with pytest.raises(video_lists.ListError, match="nowhere does not exist"):
        video_lists.read_list(csv, tmp_path / "nowhere")


@pytest.mark.parametrize(
    "text, says",
    [
        ("", "is empty; write one class name a line"),
        ("walk\n\nrun\n", "line 2, is empty"),
        ("walk\nrun\nwalk\n", "names 'walk' 2 times"),
    ],
)
def test_a_bad_labels_file(tmp_path, text, says):
    (tmp_path / "labels.txt").write_text(text)
    with pytest.raises(video_lists.ListError) as raised:
        video_lists.read_labels(tmp_path / "labels.txt")
    assert says in str(raised.value) and "labels.txt" in str(raised.value)
