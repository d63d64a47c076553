"""Half precision and the channels-last format of a network, against its float32 self."""

import copy

import cmemd.plugin  # noqa: F401  before fastreid

import torch
from tests.cases import cases
from tests.modeling.test_cmemd_net import batch_of, build, run
from torch.testing import assert_close


def gradients(network, batch, dtype=None, scale=1.0):
    """Return the losses and the gradients of a copy of a network."""
    network = copy.deepcopy(network)
    with torch.autocast("cpu", dtype, enabled=dtype is not None):
        losses, _ = run(network, batch)
    (scale * sum(losses.values())).backward()
    return losses, {
        name: p.grad / scale for name, p in network.named_parameters() if p.grad is not None
    }


@cases(
    ("dtype", "scale", "loss_error", "angle"),
    # bfloat16 rounds eight times as coarsely as float16, which also flips more ReLUs and maxima;
    # GradScaler starts at 2^16 and halves its scale until no gradient overflows
    [
        (torch.float16, 2.0**14, 0.02, 0.98),
        (torch.float16, 2.0**10, 0.02, 0.98),
        (torch.bfloat16, 1.0, 0.1, 0.8),
    ],
)
def test_gradients_of_half_precision_are_finite_and_point_the_same_way(
    dtype, scale, loss_error, angle
):
    network, batch = build().train(), batch_of(identities=4)
    expected_losses, expected = gradients(network, batch)
    losses, found = gradients(network, batch, dtype, scale)
    assert found.keys() == expected.keys()
    for name, loss in losses.items():
        assert loss.dtype == torch.float32
        assert_close(loss, expected_losses[name], rtol=loss_error, atol=loss_error)
    for name, gradient in found.items():
        assert gradient.dtype == torch.float32
        assert torch.isfinite(gradient).all(), name
    one, other = (torch.cat([g[n].flatten() for n in g]) for g in (found, expected))
    assert torch.nn.functional.cosine_similarity(one, other, dim=0) > angle


def test_pooling_head_and_losses_see_float32_and_the_backbone_does_not():
    network, seen = build().train(), {}

    def note(module, inputs, output):
        tensors = [x for x in (*inputs, output) if isinstance(x, torch.Tensor)]
        seen[module] = {x.dtype for x in tensors}

    for module in network.modules():
        module.register_forward_hook(note)
    with torch.autocast("cpu", torch.bfloat16):
        run(network, batch_of())
    heads = network.heads
    for module in (heads.global_pool, heads.stripe_pool, *heads.granularities.values()):
        assert seen[module] == {torch.float32}
    assert torch.bfloat16 in seen[network.backbone.global_stream[1]]


def test_embeddings_are_float32_under_autocast_of_an_evaluation():
    network = build().eval()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert network(batch_of()).dtype == torch.float32


# ---- channels_last


def test_channels_last_changes_nothing_but_the_order_in_memory():
    batch = batch_of(identities=4)
    plain, other = build().train(), build(CHANNELS_LAST=True).train()
    for (name, one), two in zip(plain.named_parameters(), other.parameters(), strict=True):
        assert torch.equal(one, two), name
    expected_losses, expected = gradients(plain, batch)
    losses, found = gradients(other, batch)
    for name, loss in losses.items():
        assert_close(loss, expected_losses[name], rtol=1e-4, atol=1e-4)
    for name, gradient in found.items():
        assert_close(gradient, expected[name], rtol=1e-3, atol=1e-3, msg=name)
    with torch.no_grad():
        assert_close(other.eval()(batch), plain.eval()(batch), rtol=1e-4, atol=1e-5)


def test_activations_and_gradients_keep_the_format_from_the_images_to_the_pooling():
    for recompute in (False, True):
        network = build(CHANNELS_LAST=True, BACKBONE__CHECKPOINT_ACTIVATIONS=recompute).train()
        wrong = []

        def note(name, wrong=wrong):
            def hook(module, inputs, output):
                for tensor in (*inputs, output):
                    if isinstance(tensor, torch.Tensor) and tensor.dim() == 4 and not _kept(tensor):
                        wrong.append((name, tuple(tensor.shape), tensor.stride()))
                if output.requires_grad:
                    output.register_hook(check_gradient)

            def check_gradient(gradient):
                if not _kept(gradient):
                    wrong.append((name, "gradient", gradient.stride()))

            return hook

        for name, module in network.backbone.named_modules():
            if not list(module.children()):
                module.register_forward_hook(note(name))
        for parameter in network.backbone.parameters():
            assert _kept(parameter)
        losses, _ = run(network, batch_of())
        sum(losses.values()).backward()
        assert not wrong, wrong[:5]
        for name, parameter in network.backbone.named_parameters():
            assert parameter.grad is None or _kept(parameter.grad), name


def _kept(tensor):
    """Whether a tensor with four dimensions lies channels last; others have no such format."""
    return tensor.dim() != 4 or tensor.is_contiguous(memory_format=torch.channels_last)
