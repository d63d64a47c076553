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
=========== ======== ============================================================================

Each data set needs some of them: SYSU-MM01 ``feats``, ``pids``, ``camids``, ``frames``; RegDB
``feats``, ``pids``, ``modality``; LLCM ``feats`` and ``paths``, whose folders name modality,
camera and identity (``test_vis/cam1/0005/x.jpg``). Extra arrays do no harm.

Shape legend: ``N`` = images, ``D`` = feature dimension.
"""

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

import numpy as np

from cmemd.data.layouts import LAYOUTS, llcm, regdb, sysu
from cmemd.data.modality import Modality
from cmemd.errors import InputError
from cmemd.evaluation.samples import Samples
from cmemd.files import write_whole

__all__ = ["order_by_name", "read_features", "write_features"]


def read_features(path: Path | str, layout: str) -> Samples:
    """Read features that were saved for a data set's protocols.

    Args:
        path: the file.
        layout: name of one of ``LAYOUTS``: ``sysu``, ``regdb`` or ``llcm``.

    Returns:
        The samples, in the file's order.

    Raises:
        InputError: no such file, not an npz file, arrays that are missing or of wrong shape or
            kind, or labels that this data set does not have.
    """
    arrays = _load(Path(path), layout)
    samples = _READERS[layout](arrays, path)
    return Samples(**{"features": arrays["feats"]} | samples)


def write_features(samples: Samples, path: Path) -> None:
    """Write a features file that ``read_features`` reads.

    Raises:
        InputError: the folder cannot be written to.
    """
    content = io.BytesIO()
    np.savez(
        content,
        feats=samples.features,
        pids=samples.pids,
        camids=samples.camids,
        frames=samples.frames,
        modality=samples.modalities,
        paths=samples.paths,
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
    try:
        file = np.load(path, allow_pickle=False)  # a pickle could run code
        if not isinstance(file, np.lib.npyio.NpzFile):
            raise ValueError("a single array")
        with file:
            missing = [name for name in LAYOUTS[layout].arrays if name not in file]
            if missing:
                raise InputError(
                    f"arrays {', '.join(LAYOUTS[layout].arrays)} in {path} for a {layout} protocol",
                    ", ".join(file) or "none",
                    f"add {', '.join(missing)}",
                )
            return {name: file[name] for name in file}
    except OSError as error:
        raise InputError(
            f"features at {path}", error.strerror or error, "name the npz file"
        ) from error
    except (ValueError, EOFError, zipfile.BadZipFile, KeyError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"an npz file of plain arrays at {path}",
            f"another or damaged file ({' '.join(str(error).split())[:120]})",
            "write it with numpy.savez",
        ) from error


def _sysu(arrays: Mapping[str, np.ndarray], path: Path | str) -> dict[str, np.ndarray]:
    feats, pids = arrays["feats"], arrays["pids"]
    camids, frames = (_integers(arrays, name, path) for name in ("camids", "frames"))
    _check_range(camids, tuple(sysu.CAMERAS), "camids", path, "SYSU-MM01's camera numbers")
    modalities = np.array([sysu.CAMERAS[camera] for camera in camids.tolist()])
    if "modality" in arrays and not np.array_equal(arrays["modality"], modalities):
        raise InputError(
            f"the modality of each camera in {path} (1, 2, 4, 5 visible; 3, 6 thermal)",
            "another modality",
            "check that the camera numbers are SYSU-MM01's own",
        )
    return {
        "pids": _identities(arrays, path),
        "camids": camids,
        "modalities": modalities,
        "frames": frames,
        "paths": _paths(
            arrays,
            len(feats),
            lambda row: sysu.image_path(camids[row], pids[row], frames[row]),
        ),
    }


def _regdb(arrays: Mapping[str, np.ndarray], path: Path | str) -> dict[str, np.ndarray]:
    modalities = _integers(arrays, "modality", path)
    _check_range(modalities, tuple(int(m) for m in Modality), "modality", path, "0 or 1")
    pids = _identities(arrays, path)
    paths = _paths(arrays, len(arrays["feats"]), lambda row: f"{modalities[row]}/{pids[row]}/{row}")
    return {
        "pids": pids,
        "camids": np.array([regdb.LAYOUT.cameras[Modality(m)][0] for m in modalities.tolist()]),
        "modalities": modalities,
        "frames": order_by_name(paths) if "paths" in arrays else np.arange(len(pids)),
        "paths": paths,
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


def _paths(arrays: Mapping[str, np.ndarray], images: int, name) -> np.ndarray:
    return arrays.get("paths", np.array([name(row) for row in range(images)]))


_READERS = {sysu.LAYOUT.name: _sysu, regdb.LAYOUT.name: _regdb, llcm.LAYOUT.name: _llcm}
