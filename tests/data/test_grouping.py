import pytest
import torch
from tests.cases import cases
from tests.losses.generators import seeded

from cmemd.data.grouping import IdentityRows, group_by_identity
from cmemd.data.modality import Modality
from cmemd.errors import InputError

VISIBLE, THERMAL = Modality


def test_rows_are_grouped_by_hand():
    # rows       0  1  2  3  4  5
    # identity   7  3  7  3  3  7
    # modality   V  V  T  T  T  T
    targets = torch.tensor([7, 3, 7, 3, 3, 7])
    modalities = torch.tensor([VISIBLE, VISIBLE, THERMAL, THERMAL, THERMAL, THERMAL])
    rows = group_by_identity(targets, modalities)
    assert rows.visible.tolist() == [[1], [0]]
    assert rows.thermal.tolist() == [[3, 4], [2, 5]]
    assert rows.both.tolist() == [[1, 3, 4], [0, 2, 5]]


@cases("counts", [(1, 1), (2, 4), (8, 8)])
@cases("identities", [1, 5])
@cases("seed", range(3))
def test_every_row_lands_with_its_identity_and_modality_in_any_order(identities, counts, seed):
    labels = 10 * torch.arange(identities)
    targets = torch.cat([labels.repeat_interleave(k) for k in counts])
    modalities = torch.cat(
        [torch.full((k * identities,), m) for m, k in zip(Modality, counts, strict=True)]
    )
    order = torch.randperm(len(targets), generator=seeded(seed))
    targets, modalities = targets[order], modalities[order]
    rows = group_by_identity(targets, modalities)
    for own, modality, count in zip(rows, Modality, counts, strict=True):
        assert own.shape == (identities, count)
        assert torch.equal(targets[own], labels[:, None].expand(-1, count))
        assert (modalities[own] == modality).all()
    assert rows.both.flatten().sort().values.tolist() == list(range(len(targets)))


def test_both_puts_visible_rows_before_thermal_ones():
    rows = IdentityRows(torch.tensor([[4, 0]]), torch.tensor([[1, 3, 2]]))
    assert rows.both.tolist() == [[4, 0, 1, 3, 2]]


@cases(
    ("targets", "modalities", "modality", "counts"),
    [
        ([0, 0, 1, 1, 1], [0, 1, 0, 0, 1], "visible", [1, 2]),
        ([0, 0, 1, 1, 1], [0, 1, 0, 1, 1], "thermal", [1, 2]),
        ([0, 0, 1], [0, 1, 0], "thermal", [1, 0]),
        ([0, 0, 1], [0, 1, 1], "visible", [1, 0]),
        ([0, 1], [0, 0], "thermal", [0, 0]),
        ([0, 1], [1, 1], "visible", [0, 0]),
    ],
)
def test_a_ragged_batch_is_refused_with_its_counts(targets, modalities, modality, counts):
    with pytest.raises(
        InputError, match=f"expected the same number of {modality} images"
    ) as caught:
        group_by_identity(torch.tensor(targets), torch.tensor(modalities))
    assert f"got {counts}" in str(caught.value)
    assert "CrossModalitySampler" in str(caught.value)
