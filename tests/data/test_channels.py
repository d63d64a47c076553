"""Augmentations of channels and rectangles: pixels, frequencies, stopping rules, which images."""

import math
import random
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from types import SimpleNamespace

import numpy as np
from PIL import Image
from tests.cases import cases

from cmemd import load_config
from cmemd.data import channels
from cmemd.data.augmentation import build_augmentations
from cmemd.data.channels import LUMA, normalised_copies
from cmemd.data.modality import IMAGE_KINDS, Modality
from cmemd.data.random_state import Draws

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)  # ImageNet's
NORMALISED = {"mean": MEAN, "std": STD}
NOISE = np.random.default_rng(0).integers(0, 256, (40, 20, 3), np.uint8)
COLOURS = np.tile(np.array([200, 100, 50], np.uint8), (40, 20, 1))
KINDS = [(Modality.VISIBLE, 1), (Modality.VISIBLE, 2), (Modality.THERMAL, 1)]
DRAWN = 3000


def many(augment: Callable[..., np.ndarray], image: np.ndarray = COLOURS) -> Iterator[np.ndarray]:
    for place in range(DRAWN):
        yield augment(image, Draws(7, place))


def assert_frequencies(seen: Counter, expected: dict[object, float]) -> None:
    """Each outcome within 4.5 standard deviations of a binomial count; no other outcome."""
    total = sum(seen.values())
    assert set(seen) <= set(expected), seen
    for outcome, share in expected.items():
        deviation = math.sqrt(total * share * (1 - share))
        assert abs(seen[outcome] - total * share) <= 4.5 * deviation, (outcome, seen)


def level(value: float) -> int:
    return min(max(round(value), 0), 255)


# ---- twins: the same random numbers, one pixel at a time


def grey_twin(image, draws, prob):
    if draws.python.random() >= prob:
        return image
    return np.asarray(Image.fromarray(image).convert("L").convert("RGB"))


def linear_twin(image, draws, prob, beta):
    if draws.python.random() >= prob:
        return image
    raw = [float(b) for b in draws.numpy.beta(beta, beta, 3)]
    return loop(image, lambda p: [sum(b / sum(raw) * x for b, x in zip(raw, p, strict=True))] * 3)


def jitter_twin(image, draws, prob):
    if draws.python.random() >= prob:
        return image
    one, factor = draws.python.randrange(3), draws.python.random()
    return loop(image, lambda p: [factor * x + (1 - factor) * p[one] for x in p])


def copied(pixel, one):
    """What normalising gives for each channel that holds a copy of normalised channel ``one``."""
    normalised = (pixel[one] - MEAN[one]) / STD[one]
    return [STD[c] * normalised + MEAN[c] for c in range(3)]


def exchange_twin(image, draws, prob, mean, std):
    if draws.python.random() >= prob:
        return image
    one = draws.python.randrange(3)
    return loop(image, lambda p: copied(p, one))


def step_twin(image, draws, luma, mean, std):
    number = draws.python.randrange(4)
    if number < 3:
        return loop(image, lambda p: copied(p, number))
    if draws.python.random() >= luma:
        return image

    def grey(pixel):
        total = sum(w * (x - m) / s for w, x, m, s in zip(LUMA, pixel, MEAN, STD, strict=True))
        return [STD[c] * total + MEAN[c] for c in range(3)]

    return loop(image, grey)


def loop(image: np.ndarray, change: Callable[[list[int]], list[float]]) -> np.ndarray:
    out = np.empty_like(image)
    for row in range(image.shape[0]):
        for column in range(image.shape[1]):
            new = change([int(x) for x in image[row, column]])
            out[row, column] = [level(x) for x in new]
    return out


def rectangle(image, rng, area, ratio, trials):
    height, width = image.shape[:2]
    for _ in range(trials):
        pixels = rng.uniform(*area) * height * width
        aspect = ratio(rng)
        h, w = round((pixels * aspect) ** 0.5), round((pixels / aspect) ** 0.5)
        if 0 < h < height and 0 < w < width:
            top, left = rng.randint(0, height - h), rng.randint(0, width - w)
            return [(r, c) for r in range(top, top + h) for c in range(left, left + w)]
    return []


def uniform_ratio(rng):
    return rng.uniform(0.3, 1 / 0.3)


def erase_twin(image, draws, prob, value):
    if draws.python.random() >= prob:
        return image
    out = image.copy()
    for row, column in rectangle(image, draws.python, (0.02, 0.4), uniform_ratio, 100):
        out[row, column] = [round(v) for v in value]
    return out


def linear_erase_twin(image, draws, prob, beta):
    if draws.python.random() >= prob:
        return image
    values = {(r, c, k): image[r, c, k] / 255 for r, c, k in np.ndindex(image.shape)}
    product = dict.fromkeys(values, 1.0)
    for _ in range(100):
        inside = rectangle(image, draws.python, (0.02, 0.4), uniform_ratio, 1)
        if not inside:
            continue
        drawn = draws.numpy.beta(beta, beta, 3)
        for channel in range(3):
            largest = max(values[r, c, channel] for r, c in inside) or 1.0
            for r, c in inside:
                values[r, c, channel] *= drawn[channel] / largest
                product[r, c, channel] *= drawn[channel] / largest
        if min(product.values()) < 0.1:
            break
    out = np.empty_like(image)
    for place, value in values.items():
        out[place] = level(255 * value)
    return out


def cut_twin(image, draws, prob):
    if draws.python.random() >= prob:
        return image
    low, high = math.log(0.3), math.log(3.3)
    inside = rectangle(
        image, draws.python, (0.02, 0.33), lambda rng: math.exp(rng.uniform(low, high)), 10
    )
    behind, front = draws.python.sample(range(3), 2)
    grey = image[..., behind].copy()
    for place in inside:
        grey[place] = image[(*place, front)]
    return np.stack([grey] * 3, -1)


TWINS = [
    ("to_grey", grey_twin, {"prob": 0.7}),
    ("mix_channels", linear_twin, {"prob": 0.7, "beta": 0.3}),
    ("jitter_spectrum", jitter_twin, {"prob": 0.7}),
    ("exchange_channels", exchange_twin, {"prob": 0.7, **NORMALISED}),
    ("step_channels", step_twin, {"luma": 0.5, **NORMALISED}),
    ("erase_channels", erase_twin, {"prob": 0.7, "value": (152.4, 143.8, 129.1)}),
    ("erase_linearly", linear_erase_twin, {"prob": 0.7, "beta": 0.4}),
    ("cut_channels", cut_twin, {"prob": 0.7}),
]


@cases(("name", "twin", "options"), TWINS)
def test_pixels_are_those_of_plain_loops(name, twin, options):
    before = NOISE.copy()
    for place in range(12):
        ours = getattr(channels, name)(NOISE, Draws(3, place), **options)
        assert ours.dtype == np.uint8, name
        assert ours.flags.c_contiguous, name
        theirs = twin(NOISE, Draws(3, place), **options)
        # Sums in another order may meet a half level from the other side.
        assert abs(ours.astype(int) - theirs).max() <= (name in ("mix_channels", "step_channels"))
        assert (ours == theirs).mean() > 0.999, name
    assert np.array_equal(NOISE, before), name


@cases(("name", "twin", "options"), TWINS)
def test_an_image_of_one_pixel_or_of_one_colour_stays_whole(name, twin, options):
    for image in (np.full((1, 1, 3), 9, np.uint8), np.zeros((6, 5, 3), np.uint8)):
        for place in range(20):
            ours = getattr(channels, name)(image, Draws(3, place), **options)
            assert ours.shape == image.shape, name
            assert np.array_equal(ours, twin(image, Draws(3, place), **options)), name


# ---- frequencies


def test_the_exchange_copies_each_channel_a_third_of_the_time():
    augment = partial(channels.exchange_channels, prob=1.0, mean=(0,) * 3, std=(1,) * 3)
    seen = Counter(tuple(image[0, 0].tolist()) for image in many(augment))
    assert_frequencies(seen, dict.fromkeys([(200,) * 3, (100,) * 3, (50,) * 3], 1 / 3))


@cases("luma", [0.5, 0.6, 0.0, 1.0])
def test_the_step_copies_each_channel_a_quarter_of_the_time_and_greys_a_share_of_the_rest(luma):
    augment = partial(channels.step_channels, luma=luma, mean=(0,) * 3, std=(1,) * 3)
    seen = Counter(tuple(image[0, 0].tolist()) for image in many(augment))
    grey = round(0.2989 * 200 + 0.5870 * 100 + 0.1140 * 50)
    expected = dict.fromkeys([(200,) * 3, (100,) * 3, (50,) * 3], 1 / 4)
    assert_frequencies(seen, expected | {(grey,) * 3: luma / 4, (200, 100, 50): (1 - luma) / 4})


@cases(
    ("augment", "share"),
    [
        (partial(channels.to_grey, prob=0.1), 0.1),
        (partial(channels.mix_channels, prob=0.5, beta=0.3), 0.5),
        (partial(channels.jitter_spectrum, prob=0.5), 0.5),
        (partial(channels.exchange_channels, prob=0.3, **NORMALISED), 0.3),
        (partial(channels.erase_channels, prob=0.6, value=(1, 2, 3)), 0.6),
        (partial(channels.erase_linearly, prob=0.5, beta=0.4), 0.5),
        (partial(channels.cut_channels, prob=0.5), 0.5),
    ],
)
def test_an_augmentation_changes_its_share_of_images(augment, share):
    seen = Counter(not np.array_equal(image, COLOURS) for image in many(augment))
    assert_frequencies(seen, {True: share, False: 1 - share})


def test_the_weights_of_a_linear_grey_image_are_normalised_beta_numbers():
    """Of (255, 0, 0) the grey level is 255 w_R: mean 1/3, and w_R's own distribution."""
    red = np.tile(np.array([255, 0, 0], np.uint8), (1, 1, 1))
    rng = np.random.default_rng(1)
    for beta in (0.3, 1.0):
        ours = [
            image[0, 0, 0] / 255
            for image in many(partial(channels.mix_channels, prob=1.0, beta=beta), red)
        ]
        drawn = rng.beta(beta, beta, (10**5, 3))
        weights = drawn[:, 0] / drawn.sum(1)
        for below in (0.05, 0.2, 0.5, 0.8):
            share = float((weights < below).mean())
            assert_frequencies(Counter(w < below for w in ours), {True: share, False: 1 - share})


def test_the_spectrum_jitter_blends_uniformly_with_each_channel_alike():
    """(240, 0, 0) with channel R is grey at once; G and B only darken R: level 240 f."""
    red = np.tile(np.array([240, 0, 0], np.uint8), (1, 1, 1))
    images = list(many(partial(channels.jitter_spectrum, prob=1.0), red))
    own = Counter(image[0, 0, 0] == 240 and image[0, 0, 1] > 1 for image in images)
    assert_frequencies(own, {True: 1 / 3 * 238.5 / 240, False: 1 - 1 / 3 * 238.5 / 240})
    factors = [image[0, 0, 0] / 240 for image in images if image[0, 0, 1] == 0]
    assert_frequencies(Counter(f < 0.25 for f in factors), {True: 0.25, False: 0.75})


def test_the_cut_takes_each_ordered_pair_of_channels_alike():
    seen = Counter()
    for image in many(partial(channels.cut_channels, prob=1.0)):
        levels, counts = np.unique(image[..., 0], return_counts=True)
        assert (image == image[..., :1]).all()
        assert len(levels) == 2
        assert 0.01 <= counts.min() / 800 <= 0.36  # 0.02 to 0.33, rounded to whole pixels
        seen[tuple(levels[counts.argsort()].tolist())] += 1
    expected = [(a, b) for a in (200, 100, 50) for b in (200, 100, 50) if a != b]
    assert_frequencies(seen, dict.fromkeys(expected, 1 / 6))


def test_erased_rectangles_have_the_stated_areas_and_ratios():
    """Uniform areas of 0.02 to 0.4 and ratios of 0.3 to 1 / 0.3, less those that do not fit."""
    image, rng, expected = np.zeros((200, 100, 3), np.uint8), random.Random(0), []
    while len(expected) < 20000:
        area, ratio = rng.uniform(0.02, 0.4), rng.uniform(0.3, 1 / 0.3)
        if math.sqrt(area * 20000 * ratio) < 199.5 and math.sqrt(area * 20000 / ratio) < 99.5:
            expected.append((area, ratio))
    seen = []
    for out in many(partial(channels.erase_channels, prob=1.0, value=(9, 8, 7)), image):
        rows, columns = np.nonzero(out[..., 0])
        h, w = np.ptp(rows) + 1, np.ptp(columns) + 1
        assert (out[rows, columns] == (9, 8, 7)).all()
        assert len(rows) == h * w
        seen.append((h * w / 20000, h / w))
    for place, limits in ((0, (0.1, 0.2, 0.3)), (1, (0.7, 1.0, 2.0))):
        for limit in limits:
            share = sum(pair[place] < limit for pair in expected) / len(expected)
            counted = Counter(pair[place] < limit for pair in seen)
            assert_frequencies(counted, {True: share, False: 1 - share})
    assert 0.018 < min(area for area, _ in seen)
    assert max(area for area, _ in seen) < 0.41


# ---- the stopping rule of RLE's rectangles


class Beta:
    """Stands for a generator; gives one factor always, and counts the rectangles."""

    def __init__(self, factor: float) -> None:
        self.factor, self.calls = factor, 0

    def beta(self, a: float, b: float, number: int) -> np.ndarray:
        self.calls += 1
        return np.full(number, self.factor)


def test_rectangles_stop_where_a_product_is_below_a_tenth_or_after_a_hundred():
    white = np.full((30, 30, 3), 255, np.uint8)
    for factor, rectangles in ((0.09, (1, 1)), (0.1, (2, 99)), (0.35, (2, 99)), (1.0, (50, 100))):
        for seed in range(5):
            beta = Beta(factor)
            draws = SimpleNamespace(python=random.Random(seed), numpy=beta)
            out = channels.erase_linearly(white, draws, prob=1.0, beta=0.4)
            assert rectangles[0] <= beta.calls <= rectangles[1], (factor, beta.calls)
            # After one rectangle of 0.35 a second one that overlaps may scale by up to 1 / 0.35.
            assert (out.min() < 255) == (factor < 1), factor
            assert np.array_equal(np.unique(out), [round(255 * 0.09), 255]) or factor != 0.09


def test_rectangles_that_do_not_fit_count_too_and_leave_the_image():
    beta = Beta(0.5)
    draws = SimpleNamespace(python=random.Random(0), numpy=beta)
    thin = np.full((50, 1, 3), 7, np.uint8)
    assert np.array_equal(channels.erase_linearly(thin, draws, prob=1.0, beta=0.4), thin)
    assert beta.calls == 0
    # prob, and two numbers for each of 100 rectangles
    rng = random.Random(0)
    for _ in range(201):
        rng.random()
    assert rng.random() == draws.python.random()


# ---- normalised values


def test_copies_are_the_authors_normalised_values_up_to_a_rounded_level():
    """CAJ normalises first and copies then; ours copies bytes, which are normalised afterwards."""
    table = normalised_copies(MEAN, STD)
    assert table.shape == (3, 256, 3)
    for k in range(3):
        assert np.array_equal(table[k, :, k], np.arange(256))
        for c in range(3):
            theirs = (np.arange(256) - MEAN[k]) / STD[k]
            inside = (theirs >= -MEAN[c] / STD[c]) & (theirs <= (255 - MEAN[c]) / STD[c])
            ours = (table[k, :, c].astype(float) - MEAN[c]) / STD[c]
            assert abs(ours - theirs)[inside].max() <= 0.5 / STD[c] + 1e-12
            assert np.isin(table[k, ~inside, c], (0, 255)).all()
            assert inside.mean() > 0.8, (k, c)  # so much of the range is not cut off
    same = normalised_copies((100.0,) * 3, (50.0,) * 3)
    assert all((same[k] == np.arange(256)[:, None]).all() for k in range(3))


def test_the_default_fill_is_the_authors_normalised_one_in_grey_levels():
    cfg = load_config("")
    for c, normalised in enumerate((0.4914, 0.4822, 0.4465)):
        value = cfg.MODEL.PIXEL_MEAN[c] + cfg.MODEL.PIXEL_STD[c] * normalised
        assert round(value) == cfg.INPUT.CHANNEL_ERASING.VALUE[c]


def test_a_thermal_image_changes_by_the_normalisation_of_its_channels_alone():
    grey = np.repeat(NOISE[..., :1], 3, -1)
    plain = {"mean": (0,) * 3, "std": (1,) * 3}
    changed = 0
    for place in range(40):
        assert np.array_equal(
            channels.exchange_channels(grey, Draws(1, place), prob=1.0, **plain), grey
        )
        out = channels.step_channels(grey, Draws(1, place), luma=0.0, **NORMALISED)
        changed += not np.array_equal(out, grey)
    assert changed > 20
    for place in range(40):  # weights that sum to 1 leave a grey image
        assert np.array_equal(
            channels.mix_channels(grey, Draws(1, place), prob=1.0, beta=0.3), grey
        )


# ---- which images


def config(**keys: object):
    pairs = [(f"INPUT.{name.replace('__', '.')}", str(value)) for name, value in keys.items()]
    return load_config("", [word for pair in pairs for word in pair])


def functions(cfg, kind: tuple[Modality, int]) -> list[str]:
    modality, view = kind
    found = build_augmentations(cfg, before_resize=False, modality=modality, view=view)
    return [augment.func.__name__ for augment in found]


def test_images_says_which_images_a_row_changes():
    expected = {"all": KINDS, "visible": KINDS[:2], "thermal": KINDS[2:]}
    expected |= {"first": KINDS[:1], "second": KINDS[1:2]}
    assert expected.keys() == IMAGE_KINDS.keys()
    for images, kinds in expected.items():
        cfg = config(GREY__ENABLED=True, GREY__IMAGES=images, FLIP__ENABLED=False)
        for kind in KINDS:
            assert functions(cfg, kind) == (["to_grey"] if kind in kinds else []), (images, kind)


def test_a_recipes_rows_keep_their_order_and_fast_reids_rows_change_all_images():
    rows = ["GREY", "CHANNEL_ERASING", "CHANNEL_EXCHANGE", "CHANNEL_STEP"]
    keys = {f"{name}__ENABLED": True for name in (*rows, "REA")}
    keys["FLIP__ENABLED"] = True
    cfg = config(**keys, CHANNEL_EXCHANGE__IMAGES="second", GREY__IMAGES="first")
    assert [functions(cfg, kind) for kind in KINDS] == [
        ["flip", "to_grey", "erase", "erase_channels"],
        ["flip", "erase", "erase_channels", "exchange_channels"],
        ["flip", "erase", "erase_channels", "step_channels"],
    ]


def test_one_of_some_augmentations_is_taken_each_as_often():
    keys = {"FLIP__ENABLED": False, "ONE_OF": ("LINEAR_GREY", "CHANNEL_EXCHANGE", "REA")}
    keys |= {"CHANNEL_EXCHANGE__ENABLED": True, "LINEAR_GREY__ENABLED": True, "REA__ENABLED": True}
    keys |= {"CHANNEL_EXCHANGE__PROB": 1.0, "LINEAR_GREY__PROB": 1.0, "REA__PROB": 1.0}
    (augment,) = build_augmentations(config(**keys), before_resize=False)
    seen = Counter()
    for image in many(augment):
        changed = (image != COLOURS).any(-1)
        grey = (image == image[..., :1]).all()
        seen["grey" if grey else "erased" if not changed.all() else "exchanged"] += 1
    assert_frequencies(seen, dict.fromkeys(("grey", "erased", "exchanged"), 1 / 3))
    thermal = build_augmentations(config(**keys), before_resize=False, modality=Modality.THERMAL)
    (choice,) = [augment.keywords["choice"] for augment in thermal]
    assert [one.func.__name__ for one in choice] == ["mix_channels", "erase"]


def test_views_of_an_image_have_random_numbers_of_their_own():
    for first, second in [((0, 5, 1), (0, 5, 2)), ((1, 5, 2), (0, 5, 2)), ((0, 6, 2), (0, 5, 2))]:
        assert Draws(*first).python.random() != Draws(*second).python.random()
    assert Draws(3, 4).python.random() == Draws(3, 4, 1).python.random()
