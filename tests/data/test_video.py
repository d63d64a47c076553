import numpy as np
import pytest

from cmemd.data.boxes import Box
from cmemd.data.image_files import Reason, Tally
from cmemd.data.video import clipped, is_video, read_frame, read_frames, read_mot, video_facts
from cmemd.errors import InputError
from cmemd.gallery.video_sources import pixels_of, video_sources

cv2 = pytest.importorskip("cv2")
FRAMES = 9


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """Frames of 64 x 48 whose grey level is 20 times their number."""
    path = tmp_path_factory.mktemp("video") / "v.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 5, (64, 48))
    for number in range(FRAMES):
        writer.write(np.full((48, 64, 3), 20 * number, np.uint8))
    writer.release()
    return path


def level(frame):
    return round(float(frame.mean()) / 20)


def test_wanted_frames_come_in_order_and_alone(video):
    assert video_facts(video) == (64, 48, FRAMES)
    found = [(number, level(frame)) for number, frame in read_frames(video, [7, 2, 2, 0])]
    assert found == [(0, 0), (2, 2), (7, 7)]
    assert level(read_frame(video, 8)) == 8
    assert list(read_frames(video, [])) == []
    with pytest.raises(InputError, match=r"frame 10 in .*v\.avi, which a box names, got 9 frames"):
        list(read_frames(video, [3, 9]))


def test_what_is_no_video_is_refused(tmp_path):
    (tmp_path / "a.mp4").write_text("#EXTM3U\nhttp://example.org/a.ts\n")  # names other files
    (tmp_path / "b.mp4").write_bytes(b"\0\0\0\x18ftypisom" + bytes(50))
    for name, message in (("a.mp4", "another file"), ("b.mp4", "damaged"), ("c.mp4", "no such")):
        with pytest.raises(InputError, match=message):
            video_facts(tmp_path / name)
    assert not is_video(tmp_path)


def test_mot_boxes_by_hand(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(
        "frame,id,x,y,w,h,conf\n"
        "3,5,10.4,20,30,10.2,1,-1,-1,-1\n"
        "1,7,-4,0,8,16\n"
        "2,7,0,0,8,16,0\n"  # confidence 0: not to be used
        "\n1,8,1,2,3,4,-1\n"
    )
    boxes, left_out = read_mot(path)
    assert [tuple(box)[:3] for box in boxes] == [
        (0, "7", (-4, 0, 8, 16)),
        (0, "8", (1, 2, 3, 4)),
        (2, "5", (10, 20, 30, 10)),
    ]
    assert left_out == 1
    for text, message in (
        ("0,1,2,3,4,5\n", "frame .from 1.*line 1"),
        ("1,1,2,3,0,5\n", "line 1"),
        ("1,1,2,3,4,5\n1,1,2,x,4,5\n", "line 2"),
        ("1,1,2\n", "line 1"),
        ("1,1,2,3,4,5\n1,2,2,3,4,5\n", "lines 1 and 2"),
        ("", "got none"),
    ):
        path.write_text(text)
        with pytest.raises(InputError, match=message):
            read_mot(path)


def test_clipping_by_hand():
    assert clipped((-4, 0, 8, 16), 64, 48) == Box(0, 0, 4, 16)
    assert clipped((60, 40, 10, 10), 64, 48) == Box(60, 40, 4, 8)
    assert clipped((64, 0, 5, 5), 64, 48) is None


def test_a_videos_boxes_become_images_frame_by_frame(video, tmp_path):
    (tmp_path / "t.csv").write_text("3,1,10,20,8,16\n8,1,0,0,8,16\n3,2,-4,0,8,16\n5,9,70,0,5,5\n")
    tally = Tally()
    sources = video_sources(video, tmp_path / "t.csv", tally)
    assert [source.path.removeprefix(str(video)) for source in sources] == [
        "#frame=2&xywh=10,20,8,16",
        "#frame=2&xywh=0,0,4,16",
        "#frame=7&xywh=0,0,8,16",
    ]
    assert len(tally.names(Reason.OUTSIDE_BOX)) == 1
    images = list(pixels_of(sources))
    assert [key for key, _ in images] == [source.path for source in sources]
    assert [(level(x), x.shape) for _, x in images] == [
        (2, (16, 8, 3)),
        (2, (16, 4, 3)),
        (7, (16, 8, 3)),
    ]
    assert all(pixels.base is None for _, pixels in images)  # no view that keeps a frame
    backwards = list(pixels_of(sources[::-1]))
    assert [level(x) for _, x in backwards] == [7, 2, 2]
    (tmp_path / "t.csv").write_text("12,1,10,20,8,16\n")
    with pytest.raises(InputError, match="frame 12 in .*got 9 frames"):
        video_sources(video, tmp_path / "t.csv", Tally())
