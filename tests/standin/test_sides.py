"""The view variation: what differs between the four sides of a person."""

import hashlib
import itertools
import json
import pkgutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from tests.standin.test_drawing import CROWD, read_meta, times_chance

from cmemd.data.modality import Modality
from cmemd.errors import InputError
from cmemd.standin import STANDINS, draw_sysu
from cmemd.standin.figure import Figure
from cmemd.standin.image import render
from cmemd.standin.person import draw_person
from cmemd.standin.shot import VIEWS, draw_shot
from cmemd.standin.sides import Look, draw_sides, hour_of, vary_shot
from cmemd.standin.wraps import ANGLES

FEW = {"ids": 5, "per_camera": 2, "size": (48, 24), "seed": 3}
AMOUNTS = (0.0, 0.25, 0.5, 0.75, 1.0)


def digest(root: Path) -> dict[str, str]:
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in root.rglob("*")
        if path.is_file()
    }


def figure_of(pid: int, modality: Modality, amount: float) -> Figure:
    person = draw_person(np.random.default_rng(pid))
    sides = draw_sides(np.random.default_rng([pid, 1]))
    look = Look(sides, modality, amount) if amount else None
    return Figure(person, person.tones(modality), look)


def test_without_variation_every_layout_has_the_bytes_of_a_drawing_without_the_option(tmp_path):
    for layout, place in STANDINS.items():
        draw = pkgutil.resolve_name(place)
        draw(tmp_path / layout / "plain", **FEW)
        for amount in (0, 0.0, -0.0):
            root = tmp_path / layout / f"zero{amount}"
            draw(root, **FEW, view_variation=amount)
            assert digest(root) == digest(tmp_path / layout / "plain"), (layout, amount)


def test_a_setting_is_recorded_and_changes_images_only(tmp_path):
    for layout, place in STANDINS.items():
        draw = pkgutil.resolve_name(place)
        roots = [tmp_path / layout / str(amount) for amount in (0.0, 0.5)]
        for root, amount in zip(roots, (0.0, 0.5), strict=True):
            draw(root, **FEW, view_variation=amount)
        before, after = map(digest, roots)
        changed = {path for path in before if before[path] != after[path]}
        assert before.keys() == after.keys(), layout
        images = {path for path in before if path.endswith((".jpg", ".bmp"))}
        assert changed == images | {"meta.jsonl"}, layout
        (plain, *lines), (varied, *others) = (
            [json.loads(line) for line in (root / "meta.jsonl").read_text().splitlines()]
            for root in roots
        )
        assert varied == plain | {"view_variation": 0.5}, layout
        assert lines == others, layout
        for path in images:
            one, other = (cv2.imread(str(root / path)) for root in roots)
            assert one.shape == other.shape, path


def test_the_same_setting_gives_the_same_bytes(tmp_path):
    for name in ("one", "other"):
        draw_sysu(tmp_path / name, **FEW, view_variation=0.7)
    assert digest(tmp_path / "one") == digest(tmp_path / "other")


def test_panels_become_more_and_heat_rises_with_the_setting():
    areas = []
    for pid in range(5):
        none, *others = (figure_of(pid, Modality.VISIBLE, amount) for amount in AMOUNTS)
        for part in ("top", "skirt"):
            painted = [(getattr(f, part) != getattr(none, part)).any(axis=2) for f in others]
            shares = [of.mean() for of in painted]
            for fewer, more in itertools.pairwise(painted):
                assert (fewer <= more).mean() > 0.99, (pid, part)  # but for the edge of a logo
            assert shares == sorted(shares), (pid, part)
            assert 0 < shares[3] < 1, (pid, part)
            areas.append(shares)
        none, *others = (figure_of(pid, Modality.THERMAL, amount).head for amount in AMOUNTS)
        for amount, head in zip(AMOUNTS[1:], others, strict=True):
            whole = others[-1] - none
            unclipped = others[-1] < 1
            got, expected = (head - none)[unclipped], amount * whole[unclipped]
            np.testing.assert_allclose(got, expected, atol=1e-6, err_msg=str((pid, amount)))
    # A logo, which shows beside its panel too, makes the area a little larger.
    np.testing.assert_allclose(
        np.mean(areas, axis=0) / np.mean(areas), [0.4, 0.8, 1.2, 1.6], atol=0.2
    )


def test_images_differ_the_more_the_higher_the_setting():
    for modality in Modality:
        means = []
        for amount in AMOUNTS:
            differences = []
            for pid in range(6):
                images = []
                for setting in (0.0, amount):
                    rng = np.random.default_rng([pid, 2])
                    shot = vary_shot(draw_shot(rng), setting, np.random.default_rng([pid, 3]))
                    images.append(
                        render(
                            figure_of(pid, modality, setting),
                            shot,
                            camera=1,
                            modality=modality,
                            size=(64, 32),
                            rng=rng,
                            hour=setting,
                        ).astype(float)
                    )
                differences.append(np.abs(images[1] - images[0]).mean())
            means.append(np.mean(differences))
        assert means[0] == 0, modality
        assert (np.diff(means) > 0).all(), (modality, means)


def test_each_side_has_its_own_panels_and_what_has_none_stays_as_it_was():
    # In visible light nothing else covers the torso. Panels are within 0.78 radians of each side's
    # middle; 0.785 is the quarter's edge, in a column of its own. A logo is on the panels.
    quarter = np.round(ANGLES[0] / (np.pi / 2)).astype(int) % 4
    away = np.abs((ANGLES[0] - quarter * np.pi / 2 + np.pi) % (2 * np.pi) - np.pi)
    for pid in range(10):
        plain, varied = (figure_of(pid, Modality.VISIBLE, amount).top for amount in (0, 1))
        assert (plain == varied)[:, away > 0.782].all(), pid
        sides = draw_sides(np.random.default_rng([pid, 1]))
        for view, sign in enumerate(sides.signs):
            middle = varied[:, (quarter == view) & (away < 0.75)]
            for part, panel in zip(np.split(middle, 2), sign.top, strict=True):
                tones = sides.tones[Modality.VISIBLE]
                for tone, share in zip(tones, (panel < 0, panel > 0), strict=True):
                    painted = (np.abs(part - tone).sum(axis=2) < 1e-6).mean()
                    case = (pid, VIEWS[view], sign)
                    assert painted == share if sign.logo is None else painted >= 0.6 * share, case


def test_the_setting_is_the_share_of_a_persons_panels_that_are_there():
    for pid in range(20):
        onsets = draw_sides(np.random.default_rng([pid, 1])).onsets
        assert [(amount > onsets).mean() for amount in AMOUNTS] == list(AMOUNTS), pid
        assert (onsets < 0.01).sum() == 1, pid  # the smallest setting has a panel


def test_light_panels_are_light_in_both_modalities_and_dark_ones_dark():
    for pid in range(100):
        sides = draw_sides(np.random.default_rng([pid, 1]))
        for modality in Modality:
            dark, light = sides.tones[modality]
            assert (light - dark > 0.55).all(), (pid, modality)


def test_sides_have_signs_of_their_own_and_people_too():
    people = [draw_sides(np.random.default_rng([pid, 1])).signs for pid in range(100)]
    panels = np.array([[sign.top + sign.legs for sign in signs] for signs in people])
    # Independent sides and people agree in 0.4^2 + 0.2^2 + 0.4^2 = 0.36 of the panels.
    for shift in (1, 2):
        assert abs((panels == np.roll(panels, shift, axis=1)).mean() - 0.36) < 0.06, shift
    assert abs((panels == np.roll(panels, 1, axis=0)).mean() - 0.36) < 0.06


def test_the_sun_warms_its_side_in_thermal_images_alone():
    for pid in range(10):
        sides = draw_sides(np.random.default_rng([pid, 1]))
        for modality in Modality:
            plain, varied = (figure_of(pid, modality, amount).head for amount in (0, 1))
            heat = (varied - plain)[0, :, 0]
            if modality is Modality.VISIBLE:
                assert not heat.any(), pid
                continue
            lit = np.cos(ANGLES[0] - sides.sun)
            assert (heat[lit > 0.05] > 0).all(), pid
            np.testing.assert_allclose(heat[lit < 0], 0, atol=1e-6, err_msg=str(pid))


def test_a_shot_keeps_its_view_and_changes_in_proportion():
    def away(shot):
        return (shot.turn - round(4 * shot.turn) / 4 + 0.5) % 1 - 0.5

    for n in range(100):
        shot = draw_shot(np.random.default_rng(n))
        assert vary_shot(shot, 0.0, np.random.default_rng([n, 1])) == shot, n
        half, whole = (vary_shot(shot, a, np.random.default_rng([n, 1])) for a in (0.5, 1.0))
        assert half.view == whole.view == shot.view, n
        # A tenth of the turn away from the side is left at 1, and 55 % at 0.5.
        np.testing.assert_allclose([away(half), away(whole)], np.multiply(away(shot), [0.55, 0.1]))
        for name in ("stride", "lean", "reach"):
            before, middle, after = (getattr(of, name) for of in (shot, half, whole))
            assert middle == pytest.approx((before + after) / 2), (n, name)
            assert after != before, (n, name)
        assert whole.stride >= shot.stride, n


def test_hours_are_of_a_side_and_stay_in_range():
    sides = draw_sides(np.random.default_rng(0))
    rng = np.random.default_rng(1)
    for modality in Modality:
        hours: dict[str, list[float]] = {view: [] for view in VIEWS}
        for _ in range(400):
            shot = draw_shot(rng)
            hours[shot.view].append(hour_of(sides, shot, modality, 0.5, rng))
        for view, own in zip(VIEWS, sides.hours[modality], strict=True):
            assert 0 <= min(hours[view]) <= max(hours[view]) <= 0.5, view
            assert abs(np.median(hours[view]) - 0.5 * own) < 0.03, view


def test_grey_levels_tell_less_than_five_times_chance_at_the_highest_setting(tmp_path):
    draw_sysu(tmp_path / "crowd", **CROWD, view_variation=1)
    _, meta = read_meta(tmp_path / "crowd")
    images = [cv2.imread(str(tmp_path / "crowd" / image["path"])) for image in meta]
    small = [cv2.resize(image, (18, 36), interpolation=cv2.INTER_AREA) for image in images]
    grey = np.stack([image.mean(axis=2).ravel() for image in small])
    grey = grey - grey.mean(axis=1, keepdims=True)
    labels = (np.array([image[key] for image in meta]) for key in ("id", "camera"))
    assert times_chance(grey / grey.std(axis=1, keepdims=True), *labels) < 5


def test_a_setting_out_of_range_is_one_line_and_nothing_is_drawn(tmp_path):
    for amount in (-0.01, 1.01, float("nan"), float("inf")):
        for draw in map(pkgutil.resolve_name, STANDINS.values()):
            with pytest.raises(InputError, match="--view-variation from 0 to 1, got .*: ") as error:
                draw(tmp_path / "new", **FEW, view_variation=amount)
            assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []
