import numpy as np
import pytest
from tests.inference.one_matrix import SIZE, noise

from cmemd.errors import InputError
from cmemd.inference.frames import FrameEncoder
from cmemd.inference.predictor import Predictor


class Boxes:
    """As supervision's detections."""

    def __init__(self, xyxy):
        self.xyxy = xyxy


def test_boxes_are_cut_within_the_frame_at_whole_pixels(shared_model):
    predictor = Predictor(shared_model)
    frame = noise(1, height=40, width=30)[0]
    encoder = FrameEncoder(predictor, "visible", bgr=False)
    assert encoder.embedding_dim == SIZE
    # left, top, right, bottom -> the same crop by hand
    cases = {
        (3, 4, 13, 24): frame[4:24, 3:13],
        (3.9, 4.9, 13.9, 24.9): frame[4:24, 3:13],
        (-5, -5, 10, 10): frame[:10, :10],
        (20, 30, 99, 99): frame[30:, 20:],
        (50, 60, 70, 80): frame[39:, 29:],
        (5, 5, 5, 5): frame[5:6, 5:6],
    }
    boxes = np.array(list(cases), np.float32)
    wanted = predictor.embed(list(cases.values()), "visible", bgr=False)
    for found in (
        encoder.get_features(boxes, frame),
        encoder.extract_embeddings(Boxes(boxes), frame),
        *encoder.encode([frame, frame], [boxes, Boxes(boxes)]),
    ):
        np.testing.assert_array_equal(found, wanted)


def test_opencvs_channel_order_is_the_default(shared_model):
    predictor = Predictor(shared_model)
    frame = noise(1)[0]
    found = FrameEncoder(predictor, "visible").get_features([[0, 0, 4, 8]], frame[..., ::-1])
    np.testing.assert_array_equal(found, predictor.embed(frame, "visible", bgr=False))


def test_no_box_is_no_row_and_bad_boxes_are_refused(shared_model):
    encoder = FrameEncoder(Predictor(shared_model), "thermal")
    frame = noise(1)[0]
    assert encoder.get_features(np.empty((0, 4)), frame).shape == (0, SIZE)
    for boxes in ([[0, 0, 1]], [0, 0, 1, 1], [[0, 0, np.nan, 1]]):
        with pytest.raises(InputError, match="finite boxes"):
            encoder.get_features(boxes, frame)
    with pytest.raises(InputError, match="as many detections as frames, got 0 and 1"):
        encoder.encode([frame], [])
