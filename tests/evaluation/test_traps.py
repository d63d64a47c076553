"""Each known way to get a number that cannot be compared gives another number than ours."""

import random
from dataclasses import replace

import numpy as np
import pytest

from cmemd.errors import InputError
from cmemd.evaluation.features_file import read_features
from cmemd.evaluation.protocols import Side, get_protocol
from cmemd.evaluation.sampling import sample_trials
from cmemd.evaluation.scoring import score


def test_no_cam2_cam3_rule(official, golden_samples, golden_perm):
    protocol = get_protocol("sysu-indoor-1shot")
    lax = score(golden_samples, replace(protocol, ignored_pairs=()), "official", golden_perm)
    right = official[protocol.name]
    assert abs(lax.mean()["mAP"] - right.mean()["mAP"]) > 0.005
    name = "queries_without_positive"
    assert lax.counts[name] != right.counts[name]


def test_market_style_cmc_of_a_multi_shot_gallery(official, golden_samples, golden_perm):
    protocol = get_protocol("sysu-all-10shot")
    market = score(golden_samples, replace(protocol, cmc="images"), "official", golden_perm)
    assert official[protocol.name].mean()["rank10"] - market.mean()["rank10"] > 0.03


def test_one_trial_alone(official):
    result = official["sysu-all-1shot"]
    first = result.trials["rank1"][0]
    assert abs(first - result.mean()["rank1"]) > 0.004
    assert result.std()["rank1"] > 0.005


def test_the_other_gallery_sampling(official, golden_samples):
    python = score(golden_samples, get_protocol("sysu-all-1shot"), "python")
    assert python.sampling != official["sysu-all-1shot"].sampling
    assert abs(python.mean()["rank1"] - official["sysu-all-1shot"].mean()["rank1"]) > 0.001


def test_a_shuffled_listing_under_the_python_sampling(golden_samples):
    # What an unsorted listing does: the same seed chooses other images. Ours are sorted first.
    protocol = get_protocol("sysu-all-1shot")
    ours = sample_trials(golden_samples, protocol, "python")[0].gallery
    pool = np.flatnonzero(np.isin(golden_samples.camids, protocol.gallery.cameras))
    listing = np.random.default_rng(0).permutation(pool)
    generator, theirs = random.Random(0), []
    for pid in np.unique(golden_samples.pids[pool]):
        for camera in protocol.gallery.cameras:
            here = (golden_samples.pids[listing] == pid) & (
                golden_samples.camids[listing] == camera
            )
            if here.any():
                theirs.append(generator.choice(listing[here]))
    assert len(theirs) == len(ours)
    assert np.mean(ours == np.array(theirs)) < 0.5


def test_queries_without_a_positive_counted_as_failures(official):
    result = official["sysu-indoor-1shot"]
    counts = result.counts
    assert counts["queries_without_positive"] > 0
    share = 1 - counts["queries_without_positive"] / counts["queries"]
    assert result.mean()["rank1"] - result.mean()["rank1"] * share > 0.02


def test_a_half_switched_direction(regdb_samples):
    # Features of the other modality under the labels of this one: a direction is one name.
    right = score(regdb_samples, get_protocol("regdb-v2t")).mean()
    swapped = score(regdb_samples, get_protocol("regdb-t2v")).mean()
    assert abs(right["rank1"] - swapped["rank1"]) > 0.02


def test_variants_of_llcm_that_carry_one_name(llcm_scores):
    for direction in ("v2t", "t2v"):
        paper, *others = (
            llcm_scores[f"llcm-{direction}-{variant}"].mean()["mAP"]
            for variant in ("paper", "released", "full-gallery")
        )
        for other in others:
            assert abs(paper - other) > 0.02, direction


def test_the_released_llcm_direction_is_named_by_its_queries(llcm_samples):
    # The script prints it as visible to near-infrared; the queries are thermal.
    trial = sample_trials(llcm_samples, get_protocol("llcm-t2v-released"))[0]
    assert set(llcm_samples.modalities[trial.queries]) == {1}
    assert set(llcm_samples.modalities[trial.gallery]) == {0}


def test_llcm_without_the_same_camera_rule(llcm_samples, llcm_scores):
    protocol = get_protocol("llcm-v2t-paper")
    lax = score(llcm_samples, replace(protocol, ignore_same_camera=False)).mean()
    assert abs(lax["mAP"] - llcm_scores[protocol.name].mean()["mAP"]) > 0.003


def test_cameras_read_as_one_for_a_gallery(golden_samples, golden_perm, official):
    # All-search over the indoor cameras only.
    protocol = get_protocol("sysu-all-1shot")
    indoor = replace(protocol, gallery=Side(protocol.gallery.modality, (1, 2), 1))
    wrong = score(golden_samples, indoor, "official", golden_perm).mean()
    assert wrong["rank1"] - official[protocol.name].mean()["rank1"] > 0.01


def test_an_identity_parsed_from_a_place_in_the_path(tmp_path, llcm_samples):
    # Slicing at the first "cam" reads the parent; ours are the last three folders.
    nested = np.array([f"/data/cam1/0099/{path}" for path in llcm_samples.paths])
    np.savez(tmp_path / "f.npz", feats=llcm_samples.features, paths=nested)
    again = read_features(tmp_path / "f.npz", "llcm")
    assert again.pids.tolist() == llcm_samples.pids.tolist()
    assert again.camids.tolist() == llcm_samples.camids.tolist()
    sliced = {int(path.split("cam")[1].split("/")[1]) for path in nested}
    assert sliced == {99}


def test_distractors_are_refused_not_scored(tmp_path):
    np.savez(tmp_path / "f.npz", feats=np.ones((2, 2)), pids=[-1, 1], modality=[0, 1])
    with pytest.raises(InputError, match="leave distractors out"):
        read_features(tmp_path / "f.npz", "regdb")
