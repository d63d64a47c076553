"""The features file: one ``.npz`` with all that scoring needs, which any system can write.

=========== ======== ============================================================================
array       shape    what it holds
=========== ======== ============================================================================
``feats``   (N, D)   floating-point features, one row per test image
``pids``    (N,)     identities, integers, as in the data set
``camids``  (N,)     genuine camera numbers: SYSU-MM01 1 to 6, LLCM 1 to 9
``frames``  (N,)     image number in the file name: SYSU-MM01's samplings need it
``modality`` (N,)    0 visible, 1 thermal or near-infrared
``paths``   (N,)     paths as in the data set, strings
``roles``   (N,)     ``query``, ``gallery`` or ``test`` (both), strings; own data may have them
``times``   (N,)     seconds, floats, NaN where unknown; own data may have them
``tracklets`` (N,)   strings, empty for none; own data may have them
=========== ======== ============================================================================

Each data set needs some of them: SYSU-MM01 ``feats``, ``pids``, ``camids``, ``frames``; RegDB
``feats``, ``pids``, ``modality``; LLCM ``feats`` and ``paths``, whose folders name modality,
camera and identity (``test_vis/cam1/0005/x.jpg``). Extra arrays do no harm.

An evaluation adds how it scored, so that ``cmemd score`` does the same; other systems may:

============== ======== =========================================================================
array          shape    what it holds
============== ======== =========================================================================
``layout``     ()       the data set, a string: ``sysu``, ``regdb``, ``llcm`` or ``own``
``metric``     ()       ``euclidean`` or ``cosine``
``flip``       ()       whether ``feats`` are means over an image and its mirror image, a boolean
``feats_flip`` (N, D)   such means, where ``feats`` are of the image alone
``draw``       ()       the gallery sampling of the first protocol
``reranking``  (3,)     k1, k2 and weight of k-reciprocal re-ranking, where it was on
============== ======== =========================================================================

Shape legend: ``N`` = images, ``D`` = feature dimension.
"""

import io
import re
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from cmemd.data.items import GALLERY, QUERY, TEST
from cmemd.data.layouts import ALL_LAYOUTS, llcm, own, regdb, sysu
from cmemd.data.modality import Modality
from cmemd.errors import InputError, reason
from cmemd.evaluation.distances import DISTANCES
from cmemd.evaluation.protocols import SAMPLINGS
from cmemd.evaluation.samples import Samples
from cmemd.evaluation.scoring import Reranking
from cmemd.files import write_whole
from cmemd.paths import check_input

__all__ = ["SavedFeatures", "order_by_name", "read_features", "read_saved", "write_features"]

_FILE, _REMEDY = "features", "name the npz file"
_FOREIGN = "leave the array out, or store what this page of docs/scoring.md says"


class SavedFeatures(NamedTuple):
    """Features, and how an evaluation scored them; None for what is unknown.

    Attributes:
        samples: features and labels.
        layout: their data set, a key of ``ALL_LAYOUTS``.
        flip: whether features are means over an image and its mirror image.
        mirrored: such means of the same images, where ``samples`` are of the image alone.
        metric: the distance that an evaluation used.
        draw: its gallery sampling.
        reranking: its settings of re-ranking; None also where it did none.
    """

    samples: Samples
    layout: str | None = None
    flip: bool | None = None
    mirrored: Samples | None = None
    metric: str | None = None
    draw: str | None = None
    reranking: Reranking | None = None

    @property
    def by_flip(self) -> dict[bool | None, Samples]:
        """The features to score, by flip."""
        found: dict[bool | None, Samples] = {self.flip: self.samples}
        return found if self.mirrored is None else {**found, True: self.mirrored}


def read_features(path: Path | str, layout: str) -> Samples:
    """Read features that were saved for a data set's protocols; see ``read_saved``."""
    return read_saved(path, layout).samples


def read_saved(path: Path | str, layout: str) -> SavedFeatures:
    """Read features that were saved for a data set's protocols, and how they were scored.

    Args:
        path: the file.
        layout: name of one of ``ALL_LAYOUTS``: ``sysu``, ``regdb`` or ``llcm``.

    Returns:
        The samples, in the file's order.

    Raises:
        InputError: no such file, not an npz file, features of another data set, arrays that are
            missing or of wrong shape or kind, or labels that this data set does not have.
    """
    arrays = _load(Path(path), layout)
    _check_data_set(arrays, layout, path)
    labels = _READERS[layout](arrays, path)
    samples = Samples(features=arrays["feats"], **labels)
    if "paths" in arrays:
        _check_paths(samples, layout, path)
    flip = _scalar(arrays, "flip", (False, True), path)
    flip = flip if flip is None else bool(flip)
    mirrored = None
    if "feats_flip" in arrays:
        if flip or arrays["feats_flip"].shape != arrays["feats"].shape:
            raise InputError(
                f"feats_flip in {path} beside feats without flip, of the same shape",
                f"shape {arrays['feats_flip'].shape}, flip {flip}",
                _FOREIGN,
            )
        flip, mirrored = False, Samples(features=arrays["feats_flip"], **labels)
    return SavedFeatures(
        samples,
        layout=_scalar(arrays, "layout", tuple(ALL_LAYOUTS), path),
        flip=flip,
        mirrored=mirrored,
        metric=_scalar(arrays, "metric", DISTANCES, path),
        draw=_scalar(arrays, "draw", SAMPLINGS, path),
        reranking=_reranking(arrays, path),
    )


def write_features(saved: SavedFeatures | Samples, path: Path) -> None:
    """Write a features file that ``read_saved`` reads; what is unknown is left out.

    Raises:
        InputError: the folder cannot be written to.
    """
    if isinstance(saved, Samples):
        saved = SavedFeatures(saved)
    samples = saved.samples
    known = {
        name: value
        for name in ("layout", "flip", "metric", "draw", "reranking")
        if (value := getattr(saved, name)) is not None
    }
    if saved.mirrored is not None:
        known["feats_flip"] = saved.mirrored.features
    content = io.BytesIO()
    np.savez(
        content,
        feats=samples.features,
        pids=samples.pids,
        camids=samples.camids,
        frames=samples.frames,
        modality=samples.modalities,
        paths=samples.paths,
        **{name: of for name in _OWN_ARRAYS if (of := getattr(samples, name)) is not None},
        **known,
    )
    write_whole(path, content.getbuffer())


def order_by_name(paths: np.ndarray) -> np.ndarray:
    """Return frames of images whose file names are not numbers: places of the sorted names.

    Args:
        paths: ``(N,)`` strings.

    Returns:
        ``(N,)`` integers that order images as their file names do.
    """
    names = np.array([PurePosixPath(path).name for path in paths.tolist()])
    return np.unique(names, return_inverse=True)[1]


def _load(path: Path, layout: str) -> dict[str, np.ndarray]:
    check_input(path, _FILE, _REMEDY)
    try:
        file = np.load(path, allow_pickle=False)  # a pickle could run code
        if not isinstance(file, np.lib.npyio.NpzFile):
            raise ValueError("a single array")
        with file:
            missing = [name for name in ALL_LAYOUTS[layout].arrays if name not in file]
            if missing:
                needed = ", ".join(ALL_LAYOUTS[layout].arrays)
                raise InputError(
                    f"arrays {needed} in {path} for a {layout} protocol",
                    ", ".join(file) or "none",
                    f"add {', '.join(missing)}",
                )
            return {name: file[name] for name in file if name in _KNOWN}
    except OSError as error:
        raise InputError(f"{_FILE} at {path}", reason(error), _REMEDY) from error
    except (ValueError, EOFError, KeyError, *_BAD_ARCHIVE) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"an npz file of plain arrays at {path}",
            f"another or damaged file ({reason(error, 120)})",
            "write it with numpy.savez",
        ) from error


def _check_data_set(arrays: Mapping[str, np.ndarray], layout: str, path: Path | str) -> None:
    """Raise for features that say, or whose paths say, that they are of another data set."""
    said = _scalar(arrays, "layout", tuple(ALL_LAYOUTS), path)
    paths = arrays.get("paths")
    if said is None and paths is not None and paths.dtype.kind == "U" and paths.size:
        seen = {_path_labels(image)[0] for image in paths.ravel()[:_LOOKED_AT].tolist()}
        said = seen.pop() if len(seen) == 1 else None
    if said not in (None, layout):
        raise InputError(
            f"features of {ALL_LAYOUTS[layout].title} for its protocols in {path}",
            f"features of {ALL_LAYOUTS[said].title}",
            "name protocols of that data set, or another file",
        )


def _path_labels(image: str) -> tuple[str | None, tuple[int | None, int, int | None]]:
    """Return the data set that a path looks like, with camera or modality, identity and frame."""
    labels = llcm.labels_of(image)
    if labels is not None:
        return llcm.LAYOUT.name, (labels[1], labels[2], None)
    if found := _SYSU_PATH.search(image):
        camera, pid, frame = map(int, found.groups())
        return sysu.LAYOUT.name, (camera, pid, frame)
    parts = PurePosixPath(image.replace("\\", "/")).parts[-3:]
    for modality in Modality:
        identity = regdb.identity(parts, modality)
        if identity is not None:
            return regdb.LAYOUT.name, (int(modality), identity, None)
    return None, (None, 0, None)


def _check_paths(samples: Samples, layout: str, path: Path | str) -> None:
    """Raise where a path of the data set's own form names other labels than the arrays do."""
    sides = samples.modalities if layout == regdb.LAYOUT.name else samples.camids
    rows = zip(sides.tolist(), samples.pids.tolist(), samples.frames.tolist(), strict=True)
    for image, row in zip(samples.paths.tolist(), rows, strict=True):
        of, named = _path_labels(image)
        if of == layout and any(
            n not in (None, label) for n, label in zip(named, row, strict=True)
        ):
            raise InputError(
                f"arrays of {path} that agree with its paths",
                f"camera or modality, identity and frame {row} for {image}",
                "store the labels that the path names, row by row",
            )


def _scalar(
    arrays: Mapping[str, np.ndarray], name: str, allowed: Sequence[Any], path: Path | str
) -> Any:
    """Return an array's only value; None where there is no such array."""
    if name not in arrays:
        return None
    array = arrays[name]
    if array.size != 1 or (value := array.reshape(())[()].item()) not in allowed:
        raise InputError(
            f"{name} in {path} out of {', '.join(map(str, allowed))}",
            f"{array.dtype} of shape {array.shape}" if array.size != 1 else repr(value),
            _FOREIGN,
        )
    return value


def _reranking(arrays: Mapping[str, np.ndarray], path: Path | str) -> Reranking | None:
    if "reranking" not in arrays:
        return None
    values = arrays["reranking"]
    if values.shape != (3,) or values.dtype.kind not in "iuf" or not np.isfinite(values).all():
        raise InputError(
            f"reranking in {path} as k1, k2 and weight",
            f"{values.dtype} of shape {values.shape}",
            _FOREIGN,
        )
    return Reranking(int(values[0]), int(values[1]), float(values[2]))


def _sysu(arrays: Mapping[str, np.ndarray], path: Path | str) -> dict[str, np.ndarray]:
    camids, frames = (_integers(arrays, name, path) for name in ("camids", "frames"))
    _check_range(camids, tuple(sysu.CAMERAS), "camids", path, "SYSU-MM01's camera numbers")
    modalities = np.array([sysu.CAMERAS[camera] for camera in camids.tolist()])
    if "modality" in arrays and not np.array_equal(arrays["modality"], modalities):
        raise InputError(
            f"the modality of each camera in {path} (1, 2, 4, 5 visible; 3, 6 thermal)",
            "another modality",
            "check that the camera numbers are SYSU-MM01's own",
        )
    pids = _identities(arrays, path)
    places: list[tuple[int, int, int]]
    places = list(zip(camids.tolist(), pids.tolist(), frames.tolist(), strict=True))
    return {
        "pids": pids,
        "camids": camids,
        "modalities": modalities,
        "frames": frames,
        "paths": _paths(arrays, len(places), lambda row: sysu.image_path(*places[row])),
    }


def _regdb(arrays: Mapping[str, np.ndarray], path: Path | str) -> dict[str, np.ndarray]:
    modalities = _integers(arrays, "modality", path)
    _check_range(modalities, tuple(int(m) for m in Modality), "modality", path, "0 or 1")
    pids = _identities(arrays, path)
    if "camids" in arrays:
        camids = _integers(arrays, "camids", path)
        for modality in Modality:
            cameras = np.unique(camids[modalities == modality]).tolist()
            if len(cameras) > 1:
                raise InputError(
                    f"one camera of each modality in camids of {path}, as RegDB has",
                    f"{modality.name.lower()} images of cameras {cameras[:9]}",
                    "name protocols of the data set that the features are of",
                )
    paths = _paths(arrays, len(arrays["feats"]), lambda row: f"{modalities[row]}/{pids[row]}/{row}")
    return {
        "pids": pids,
        "camids": np.array([regdb.LAYOUT.cameras[Modality(m)][0] for m in modalities.tolist()]),
        "modalities": modalities,
        "frames": order_by_name(paths) if "paths" in arrays else np.arange(len(pids)),
        "paths": paths,
    }


def _own(arrays: Mapping[str, np.ndarray], path: Path | str) -> dict[str, np.ndarray | None]:
    modalities = _integers(arrays, "modality", path)
    _check_range(modalities, tuple(int(m) for m in Modality), "modality", path, "0 or 1")
    paths, roles = arrays["paths"], arrays.get("roles")
    if roles is not None:
        wrong = sorted(set(roles.ravel().tolist()) - {QUERY, GALLERY, TEST})
        if wrong:
            raise InputError(f"roles {QUERY}, {GALLERY} or {TEST} in {path}", wrong[:5], _FOREIGN)
    return {
        "pids": _identities(arrays, path),
        "camids": _integers(arrays, "camids", path),
        "modalities": modalities,
        "frames": order_by_name(paths),
        "paths": paths,
        **{name: arrays.get(name) for name in _OWN_ARRAYS},
    }


def _llcm(arrays: Mapping[str, np.ndarray], path: Path | str) -> dict[str, np.ndarray]:
    paths = arrays["paths"]
    if paths.dtype.kind != "U" or paths.ndim != 1:
        raise InputError(
            f"paths in {path} as a row of strings",
            f"{paths.dtype} of shape {paths.shape}",
            "store one string per feature",
        )
    labels = np.array([_llcm_labels(image, path) for image in paths.tolist()]).reshape(-1, 3)
    return {
        "pids": labels[:, 2],
        "camids": labels[:, 1],
        "modalities": labels[:, 0],
        "frames": order_by_name(paths),
        "paths": paths,
    }


def _llcm_labels(image: str, path: Path | str) -> tuple[int, int, int]:
    """Return modality, camera and identity, from the last three folders of a path."""
    labels = llcm.labels_of(image)
    if labels is None:
        raise InputError(
            f"paths like test_vis/cam1/0005/x.jpg or test_nir/... in {path}",
            repr(image),
            "store the paths of the data set's own folders",
        )
    modality, camera, pid = labels
    cameras = llcm.LAYOUT.cameras[modality]
    if camera not in cameras:
        raise InputError(
            f"a camera out of {cameras} for {llcm.TEST_FOLDERS[modality]} in {path}",
            repr(image),
            "store the paths of the data set's own folders",
        )
    return int(modality), camera, pid


def _identities(arrays: Mapping[str, np.ndarray], path: Path | str) -> np.ndarray:
    pids = _integers(arrays, "pids", path)
    if len(pids) and pids.min() < 0:
        raise InputError(
            f"identities of at least 0 in pids of {path}", pids.min(), "leave distractors out"
        )
    return pids


def _integers(arrays: Mapping[str, np.ndarray], name: str, path: Path | str) -> np.ndarray:
    array, images = arrays[name], len(np.atleast_1d(arrays["feats"]))
    if array.dtype.kind not in "iu" or array.shape != (images,):
        raise InputError(
            f"{name} in {path} as {images} integers, one per feature",
            f"{array.dtype} of shape {array.shape}",
            "store one integer per row of feats",
        )
    return array.astype(np.int64)


def _check_range(
    values: np.ndarray, allowed: tuple[int, ...], name: str, path: Path | str, meaning: str
) -> None:
    wrong = np.setdiff1d(values, allowed)
    if len(wrong):
        raise InputError(
            f"{name} in {path} out of {allowed}, {meaning}",
            wrong[:5].tolist(),
            "store the data set's own numbers",
        )


def _paths(arrays: Mapping[str, np.ndarray], images: int, name: Callable[[int], str]) -> np.ndarray:
    return arrays.get("paths", np.array([name(row) for row in range(images)]))


_LOOKED_AT = 1000  # paths that say which data set they are of
_SYSU_PATH = re.compile(r"(?:^|[/\\])cam([1-6])[/\\]([0-9]{4})[/\\]([0-9]{4})\.jpg$")
_BAD_ARCHIVE = (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError)
_OWN_ARRAYS = ("roles", "times", "tracklets")
_KNOWN = {
    *("feats", "pids", "camids", "frames", "modality", "paths", *_OWN_ARRAYS),
    *("layout", "metric", "flip", "feats_flip", "draw", "reranking"),
}
_Reader = Callable[[Mapping[str, np.ndarray], Path | str], Mapping[str, Any]]
_READERS: Mapping[str, _Reader] = {
    sysu.LAYOUT.name: _sysu,
    regdb.LAYOUT.name: _regdb,
    llcm.LAYOUT.name: _llcm,
    own.LAYOUT.name: _own,
}
