"""The view variation: what differs between the four sides of a person."""

import hashlib
import json
import pkgutil
from pathlib import Path

import cv2
import numpy as np
import pytest

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


def test_what_covers_a_person_moves_in_proportion_to_the_setting():
    for pid in range(5):
        for modality in Modality:
            none, *others = (figure_of(pid, modality, amount) for amount in AMOUNTS)
            for amount, figure in zip(AMOUNTS[1:], others, strict=True):
                for part in ("top", "head", "skirt"):
                    at, start, end = (getattr(f, part) for f in (figure, none, others[-1]))
                    expected = start + amount * (end - start)
                    np.testing.assert_allclose(at, expected, atol=1e-6, err_msg=f"{pid} {part}")


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


def test_a_sign_is_on_its_own_side_and_what_all_sides_share_stays_beside_it():
    # In visible light nothing else covers the torso. Signs are within 0.7 radians of each side's
    # middle; 0.785 is the quarter's edge. A logo is on the panels.
    quarter = np.round(ANGLES[0] / (np.pi / 2)).astype(int) % 4
    away = np.abs((ANGLES[0] - quarter * np.pi / 2 + np.pi) % (2 * np.pi) - np.pi)
    for pid in range(10):
        plain, varied = (figure_of(pid, Modality.VISIBLE, amount).top for amount in (0, 1))
        assert (plain == varied)[:, away > 0.72].all(), pid
        sides = draw_sides(np.random.default_rng([pid, 1]))
        for view, sign in enumerate(sides.signs):
            middle = varied[:, (quarter == view) & (away < 0.68)]
            for part, panel in zip(np.split(middle, 2), sign.top, strict=True):
                tones = sides.tones[Modality.VISIBLE]
                for tone, share in zip(tones, (panel < 0, panel > 0), strict=True):
                    painted = (np.abs(part - tone).sum(axis=2) < 1e-6).mean()
                    case = (pid, VIEWS[view], sign)
                    assert painted == share if sign.logo is None else painted >= 0.4 * share, case


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


def test_a_setting_out_of_range_is_one_line_and_nothing_is_drawn(tmp_path):
    for amount in (-0.01, 1.01, float("nan"), float("inf")):
        for draw in map(pkgutil.resolve_name, STANDINS.values()):
            with pytest.raises(InputError, match="--view-variation from 0 to 1, got .*: ") as error:
                draw(tmp_path / "new", **FEW, view_variation=amount)
            assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []
