"""Configurations: every yaml, every key, and what is refused."""

from pathlib import Path

import pytest
from fastreid.config import CfgNode
from fastreid.modeling import build_model
from tests.cases import cases
from tests.conftest import CONFIGS, REPOSITORY
from tests.engine.replay import replayed

import cmemd
from cmemd.engine.preflight import check_config
from cmemd.errors import InputError

YAMLS = sorted([*CONFIGS.rglob("*.yml"), *(REPOSITORY / "configs").glob("*.yml")])
SMALL = ["MODEL.DEVICE", "cpu", "MODEL.BACKBONE.PRETRAIN", "False", "MODEL.HEADS.NUM_CLASSES", "3"]


@cases("path", YAMLS)
def test_every_yaml_has_good_keys(path):
    cfg = cmemd.load_config(path, ["MODEL.DEVICE", "cpu"])
    assert cfg.is_frozen()
    if path.name != "Base-VTReID.yml":  # which names no network
        check_config(cfg)


@pytest.mark.parametrize("name", ["sysu", "regdb", "llcm", "demo"])
def test_every_method_yaml_builds_its_network(name):
    model = build_model(cmemd.load_config(CONFIGS / f"{name}.yml", SMALL))
    assert type(model) is cmemd.CMEMDNet


def test_sysu_is_the_follow_ups_setting():
    cfg = cmemd.load_config(CONFIGS / "sysu.yml")
    assert (cfg.MODEL.BACKBONE.DEPTH, cfg.MODEL.BACKBONE.LAST_STRIDE) == ("50x", 1)
    assert list(cfg.INPUT.SIZE_TRAIN) == list(cfg.INPUT.SIZE_TEST) == [384, 192]
    assert (cfg.MODEL.HEADS.STRIPES, cfg.MODEL.HEADS.EMBEDDING_DIM) == (6, 256)
    assert cfg.SOLVER.IMS_PER_BATCH == 6 * (8 + 8)
    assert (cfg.DATALOADER.NUM_VISIBLE, cfg.DATALOADER.NUM_THERMAL) == (8, 8)


@cases(("name", "images"), [("sysu", 34167), ("regdb", 4120), ("llcm", 30921)])
def test_the_rate_warms_up_for_10_epochs_and_drops_after_20_and_50(name, images):
    """HEADS_LR_FACTOR 10 makes the heads' rate 0.1."""
    cfg = cmemd.load_config(CONFIGS / f"{name}.yml")
    rates = replayed(cfg, images)[:: images // cfg.SOLVER.IMS_PER_BATCH]  # of each epoch's start
    assert rates[0] == pytest.approx(0.001)
    assert all(earlier < later for earlier, later in zip(rates[:10], rates[1:11], strict=True))
    assert rates[10:20] == pytest.approx([0.01] * 10)
    assert rates[20:50] == pytest.approx([0.001] * 30)
    assert rates[50:] == pytest.approx([0.0001] * 50)


def test_adding_keys_leaves_fastreids_defaults_alone():
    from fastreid.config import get_cfg

    ours, theirs = get_cfg(), get_cfg()
    cmemd.add_cmemd_config(ours)

    def compare(node: CfgNode, other: CfgNode) -> None:
        for name, value in other.items():
            if isinstance(value, CfgNode):
                compare(node[name], value)
            else:
                assert node[name] == value

    compare(ours, theirs)
    assert "SEED" not in get_cfg()


def test_every_key_of_ours_is_explained():
    """Each assignment in add_cmemd_config follows a comment."""
    lines = Path(cmemd.config.__file__).read_text().split("def add_cmemd_config")[1]
    lines = lines.split("def load_config")[0].splitlines()
    for i, line in enumerate(lines):
        if line.strip().startswith("cfg.") and "CfgNode()" not in line:
            assert "#" in lines[i - 1] or lines[i - 1].strip().startswith("cfg."), line


@pytest.mark.parametrize(
    ("opts", "message"),
    [
        (["MODEL.HEADS.STRIPS", "6"], "MODEL.HEADS.STRIPS"),
        (["MODEL.HEADS.STRIPES", "six"], "six"),
        (["MODEL.HEADS.STRIPES"], "KEY VALUE pairs"),
        (["NOSUCH.KEY", "1"], "NOSUCH.KEY"),
        (["solver.max_epochs", "1"], "did you mean SOLVER.MAX_EPOCH?"),
        (["SEED", "1", "SEED=1"], "'SEED=1' in the place of a key: put a space between"),
    ],
)
def test_bad_overrides(opts, message):
    with pytest.raises(InputError, match=message) as error:
        cmemd.load_config("", opts)
    assert "\n" not in str(error.value)


def write(folder: Path, **files: str | bytes) -> Path:
    """Write yaml files by their stems; returns the first."""
    for name, text in files.items():
        content = text if isinstance(text, bytes) else text.encode()
        (folder / f"{name}.yml").write_bytes(content)
    return folder / f"{next(iter(files))}.yml"


@cases(
    ("files", "words"),
    [
        ({"a": "MODEL: ["}, "a.yml, line 1"),
        ({"a": "MODEL:\n  DEVICE: cpu\n\tWEIGHTS: x\n"}, "a.yml, line 3, got a tab"),
        ({"a": "SEED: 1\nOUTPUT_DIR: caf\xe9\n".encode("latin-1")}, "a.yml, got another encoding"),
        ({"a": "SEED: 1\n".encode("utf-16")}, "another encoding, line 1: save the file as UTF-8"),
        ({"a": "SEED: 1\nOUTPUT_DIR: a\x07b\n"}, "a.yml, line 2, got the character '\\\\x07'"),
        ({"a": "SEED: 1\nSEED: 2\n"}, "SEED once in a file, got it again in .*a.yml, line 2"),
        ({"a": "SOLVER:\n  OPT: SGD\nSEED: 1\nSOLVER:\n  GAMMA: 1\n"}, "line 4, after .*line 1"),
        ({"a": "SOLVER.OPT: SGD\nSOLVER:\n  OPT: SGD\n"}, "SOLVER.OPT once in a file"),
        ({"a": "- SEED\n"}, "keys and values in .*a.yml, line 1"),
        ({"a": "SEED\n"}, "keys and values"),
        ({"a": "SEED: 1\n---\nSEED: 2\n"}, "a.yml, line 2"),
        ({"a": "? [SEED]\n: 1\n"}, "a name before the colon in .*a.yml, line 1"),
        ({"a": "OUTPUT_DIR: *b\n"}, "a.yml, line 1.*undefined alias"),
        ({"a": "OUTPUT_DIR: !!python/name:os.system\n"}, "a.yml, line 1"),
        ({"a": "SEED: 1\nSEDE: 2\n"}, "'SEDE' in .*a.yml, line 2: did you mean SEED?"),
        ({"a": "MODEL:\n  DEVICE:\n"}, "text for MODEL.DEVICE in .*a.yml, line 2, got None"),
        ({"a": "MODEL: 5\n"}, "keys below MODEL in .*a.yml, line 1, got 5"),
        ({"a": "MODEL:\n"}, "keys below MODEL"),
        ({"a": "MODEL:\n  DEVICE:\n    CPU: 1\n"}, "MODEL.DEVICE.CPU' in .*a.yml, line 3"),
        ({"a": "SEED: 2020-01-01\n"}, "a whole number for SEED"),
        ({"a": "_BASE_: b.yml\n"}, "the _BASE_ of .*a.yml, line 1 at .*b.yml, got No such file"),
        ({"a": "_BASE_: 3\n"}, "the path of a yaml for _BASE_"),
        ({"a": "_BASE_: b.yml\n", "b": "_BASE_: a.yml\n"}, "a circle, a.yml -> b.yml -> a.yml"),
        ({"a": "_BASE_: a.yml\n"}, "a circle, a.yml -> a.yml"),
        ({"a": "_BASE_: b.yml\n", "b": "\n\nSEED: x\n"}, "SEED in .*b.yml, line 3, got 'x'"),
        ({"a": "MODEL: &m\n  BACKBONE: *m\n"}, "at most 20 levels"),
        ({"a": "SEED: " + "[" * 5000}, "yaml in"),
    ],
)
def test_a_bad_yaml_is_one_line_with_file_and_line(tmp_path, files, words):
    with pytest.raises(InputError, match=words) as error:
        cmemd.load_config(write(tmp_path, **files))
    assert "\n" not in str(error.value)


def test_what_is_no_file_is_refused(tmp_path):
    for path in (tmp_path / "none.yml", tmp_path):
        with pytest.raises(InputError, match="got no file"):
            cmemd.load_config(path)


def test_good_yamls_are_read_with_their_bases(tmp_path):
    path = write(
        tmp_path,
        a="\ufeff# größe\n_BASE_: b.yml\nSOLVER: &s\n  OPT: SGD\n  <<: {GAMMA: 0.5, OPT: Adam}\n",
        b="_BASE_: c.yml\nSOLVER:\n  OPT: Adamax\n  MAX_EPOCH: 3\nSEED: 4\n",
        c="SEED: 5\nOUTPUT_DIR: größe\n",
    )
    cfg = cmemd.load_config(path, ["SEED", "6"])
    solver = cfg.SOLVER
    assert (solver.OPT, solver.GAMMA, solver.MAX_EPOCH, cfg.SEED) == ("SGD", 0.5, 3, 6)
    assert cfg.OUTPUT_DIR == "größe"
    assert cmemd.load_config(write(tmp_path, d="")) == cmemd.load_config("")


@cases(
    ("key", "word", "value"),
    [
        ("MODEL.LOSSES.ALIGN.WEIGHT", "1", 1.0),
        ("SOLVER.BASE_LR", "1e-3", 0.001),
        ("SOLVER.BASE_LR", "-inf", float("-inf")),
        ("SOLVER.STEPS", "(1, 2)", [1, 2]),
        ("TEST.PROTOCOLS", "['a']", ("a",)),
        ("OUTPUT_DIR", "2024", "2024"),
        ("OUTPUT_DIR", "None", "None"),
        ("OUTPUT_DIR", "'a b'", "a b"),
        ("MODEL.BACKBONE.PRETRAIN", "False", False),
        ("INPUT.CROP.SCALE", "[1, 1]", [1, 1]),
    ],
)
def test_a_value_takes_the_type_of_its_key(tmp_path, key, word, value):
    """On the command line and in a yaml."""
    *groups, name = key.split(".")
    indents = [f"{'  ' * depth}{group}:" for depth, group in enumerate(groups)]
    quoted = f'"{word}"' if groups == [] else word
    yaml = "\n".join([*indents, f"{'  ' * len(groups)}{name}: {quoted}"])
    for cfg in (
        cmemd.load_config("", [key, word]),
        cmemd.load_config(write(tmp_path, a=yaml)),
    ):
        node = cfg
        for group in groups:
            node = node[group]
        assert node[name] == value
        assert type(node[name]) is type(value)


@cases(
    ("key", "word"),
    [
        ("SOLVER.MAX_EPOCH", "2.0"),
        ("SOLVER.MAX_EPOCH", "True"),
        ("SOLVER.MAX_EPOCH", "None"),
        ("SOLVER.BASE_LR", "True"),
        ("SOLVER.BASE_LR", "fast"),
        ("SOLVER.BASE_LR", "1" + "0" * 400),
        ("SOLVER.STEPS", "5"),
        ("TEST.PROTOCOLS", "('sysu-all-1shot')"),
        ("MODEL.BACKBONE.PRETRAIN", "1"),
        ("MODEL.BACKBONE.PRETRAIN", "false"),
        ("MODEL.BACKBONE", "18x"),
    ],
)
def test_a_value_of_another_type_is_refused(key, word):
    with pytest.raises(InputError, match=key):
        cmemd.load_config("", [key, word])


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("SOLVER.IMS_PER_BATCH", "95", "use a multiple of 16"),
        ("DATALOADER.NUM_VISIBLE", "0", "at least 1"),
        ("TEST.EVAL_PERIOD", "0", "EVAL_PERIOD"),
        ("SOLVER.SELECTION", "best", "last, validation, best_on_test"),
        ("MODEL.BACKBONE.WIDTH", "0.0", "above 0"),
        ("MODEL.BACKBONE.NORM", "LN", r"BACKBONE\.NORM .* FrozenBN"),
        ("MODEL.HEADS.NORM", "", r"HEADS\.NORM .* got ''"),
        ("MODEL.BACKBONE.DEPTH", "51x", "DEPTH"),
        ("MODEL.BACKBONE.FEAT_DIM", "512", "set it to 2048"),
        ("MODEL.HEADS.POOL_LAYER", "Flatten", "POOL_LAYER"),
        ("MODEL.HEADS.LOCAL_WEIGHTS", "none", "LOCAL_WEIGHTS"),
        ("MODEL.HEADS.CLS_LAYER", "ArcSoftmax", "CLS_LAYER"),
        ("MODEL.HEADS.NECK_FEAT", "middle", "NECK_FEAT"),
        ("MODEL.LOSSES.ALIGN.DISTANCE", "chebyshev", "chebyshev"),
        ("MODEL.LOSSES.ALIGN.WEIGHT", "-1.0", "ALIGN.WEIGHT of at least 0"),
    ],
)
def test_bad_values_name_their_key(key, value, message):
    def start() -> None:
        cfg = cmemd.load_config(CONFIGS / "sysu.yml", [*SMALL, key, value])
        check_config(cfg)
        build_model(cfg)

    with pytest.raises(InputError, match=message):
        start()
