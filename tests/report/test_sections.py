"""The parts of a page: which queries, which groups, which squares."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from cmemd.data.times import parse_seconds
from cmemd.evaluation.details import FirstTrial
from cmemd.evaluation.figures import draw_cmc
from cmemd.evaluation.protocols import Options, get_protocol, with_options
from cmemd.evaluation.ranking import score_queries
from cmemd.evaluation.sampling import Trial
from cmemd.report.galleries import choose_queries
from cmemd.report.insight import overlay, plan_cells
from cmemd.report.network import Plan
from cmemd.report.pictures import svg
from cmemd.report.rates import _header, hours_of, quartiles, time_of_day
from cmemd.report.run import protocol_of
from cmemd.report.space import embed_in_two


def test_each_rule_chooses_its_queries_and_none_twice():
    rng = np.random.default_rng(0)
    distances, pids = rng.random((40, 12)), np.arange(40) % 12
    hidden = np.zeros((40, 12), dtype=bool)
    scores = score_queries(distances, pids, np.arange(12), hidden)
    trial = Trial(np.arange(40), np.arange(12))
    found = FirstTrial(get_protocol("sysu-all-1shot"), trial, distances, hidden, scores)
    chosen = choose_queries(found, seed=0)
    assert [rule for rule, _ in chosen] == [
        *["random"] * 3, *["worst"] * 2, *["best"] * 2, *["confused"] * 3
    ]  # fmt: skip
    queries = [query for _, query in chosen]
    assert len(set(queries)) == 10
    ap, rest = scores.ap[0], np.setdiff1d(np.arange(40), queries[:3])
    assert ap[queries[3]] == ap[rest].min()
    assert ap[queries[5]] == ap[rest].max()
    wrong = [q for q in rest if scores.image_rank[0, q] > 1 and q not in queries[3:7]]
    nearest = sorted(wrong, key=lambda q: distances[q].min())
    assert queries[7:] == nearest[:3]
    assert choose_queries(found, seed=1) != chosen


def test_a_protocol_is_read_with_the_rules_that_its_user_chose():
    own = Options(trials=3, seed=5, ignore_same_camera=True, within=60.0)
    for name, options in (
        ("sysu-all-1shot", Options()),
        ("own-t2v", Options()),
        ("own-t2v", own),
        ("own-mixed", Options(ratio=0.25)),
        ("sysu-mixed", Options(ratio=0.25)),
    ):
        protocol = with_options([get_protocol(name)], options)[0]
        entry = {"protocol": name, "trials": protocol.trials, "cmc": protocol.cmc}
        entry |= {"draw": protocol.samplings[0], "rules": protocol.rules}
        found = protocol_of(entry)
        assert replace(found, description="") == replace(protocol, description=""), name


def test_quarters_hold_equal_values_together():
    groups, order = quartiles(np.array([1.0, 1, 1, 1, 2, 3, 4, 5]), "{:.0f} to {:.0f}")
    assert groups.tolist()[:4] == ["1 to 1"] * 4
    assert order[0] == "1 to 1"
    assert set(order) == set(groups)
    assert len(quartiles(np.arange(100.0), "{:.1f} to {:.1f}")[1]) == 4


def test_the_time_of_day_is_that_of_the_image(tmp_path):
    for taken, hour, part in (
        ("2024:05:31 02:30:00", 2, "night, 0 to 6 h"),
        ("2024:05:31 18:00:00", 18, "evening, 18 to 24 h"),
        ("yesterday", -1, None),
    ):
        exif = Image.Exif()
        exif[0x0132] = taken
        Image.new("RGB", (20, 50)).save(tmp_path / "x.jpg", exif=exif)
        assert _header(tmp_path / "x.jpg") == (50, hour), taken
        if part:
            assert time_of_day(hour) == part


def test_the_time_of_a_list_has_an_hour_where_it_has_a_date():
    for text, hour in (
        ("1990-01-01T00:00:00", 0),
        ("2026-03-05T23:59:59", 23),
        ("2026-03-05T01:30:00+02:00", 23),
        ("1780000000.5", 20),
        ("1989-12-31T23:59:59", -1),
        ("3600", -1),  # of a video
        ("-5", -1),
        ("nan", -1),
    ):
        seconds = float("nan") if text == "nan" else parse_seconds(text)
        assert hours_of(np.array([seconds])).tolist() == [hour], text


def test_squares_have_the_area_of_their_mass():
    plan = np.array([[0.5, 0.0], [0.25, 0.25]])
    cells = plan_cells(Plan("global", "Global", np.array([[1.0, 3.0], [2.0, 1.0]]), plan, 0.2))
    # A whole image's mass is 1/2: 0.5 fills the side, 0.25 half of the area; uniform is 1/4.
    assert [[cell.side for cell in row] for row in cells] == [
        [1.0, 0.0],
        pytest.approx([np.sqrt(0.5)] * 2, abs=1e-3),
    ]
    assert cells[0][0].uniform == pytest.approx(np.sqrt(0.5), abs=1e-3)
    assert [[cell.shade for cell in row] for row in cells] == [[0, 1], [0.5, 0]]


def test_a_drawing_has_no_address_no_name_and_the_colours_of_the_page():
    curves = {"a$b$<i>": np.array([[0.1, 0.5], [0.2, 0.6]]), "b": np.ones((2, 2))}
    text, again = svg(draw_cmc(curves)), svg(draw_cmc(curves))
    assert text == again
    assert "http" not in text
    assert "<i>" not in text
    assert "var(--c0)" in text
    assert "#0072b2" not in text


def test_an_overlay_is_brightest_where_the_network_answers_most():
    grey = np.full((40, 20, 3), 100, dtype=np.uint8)
    values = np.array([[0.0, 0.0], [0.0, 1.0]])
    seen = overlay(grey, values).astype(int).sum(axis=2)
    assert seen[-1, -1] > seen[0, 0]


def test_a_map_of_few_points_is_finite_and_the_same_for_a_seed():
    features = np.random.default_rng(0).normal(size=(12, 5))
    points, words = embed_in_two(features, 0)
    assert points.shape == (12, 2)
    assert np.isfinite(points).all()
    np.testing.assert_array_equal(points, embed_in_two(features, 0)[0])
    assert words
