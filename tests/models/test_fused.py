import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cxrlab.models import PaperCNN
from cxrlab.models.fused import conv_pool_relu_dropout, conv_relu
from cxrlab.models.layers import Dropout

SIZE = 30


def network(**options: object) -> PaperCNN:
    torch.manual_seed(0)
    return PaperCNN(SIZE, filters=(4, 6, 8), dense_units=5, **options)  # type: ignore[arg-type]


def images(dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.rand(6, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1)).to(dtype)


def textbook(net: PaperCNN, x: Tensor) -> Tensor:
    """Every layer in the order of Fig. 6, with PyTorch's own functions."""
    first, second, third = (layer.p if net.training else 0.0 for layer in (net.dropout, net.dropout_1, net.dropout_2))
    x = F.relu(net.conv2d(x))
    x = F.dropout(F.max_pool2d(F.relu(net.conv2d_1(x)), net.max_pooling2d.kernel_size), first)
    x = F.dropout(F.max_pool2d(F.relu(net.conv2d_2(x)), net.max_pooling2d_1.kernel_size), second)
    x = F.dropout(F.relu(net.dense(x.flatten(1))), third)
    return net.dense_1(x)  # type: ignore[no-any-return]


def gradients(net: PaperCNN, logits: Tensor) -> list[Tensor]:
    targets = torch.tensor([0.0, 1, 0, 1, 1, 0], dtype=logits.dtype)
    loss = F.binary_cross_entropy_with_logits(logits.float().squeeze(1), targets.float())
    return list(torch.autograd.grad(loss.to(logits.dtype), list(net.parameters())))


def off_by(values: Tensor, reference: Tensor) -> float:
    """Length of the difference over length of the reference."""
    values, reference = values.detach().double(), reference.detach().double()
    return float((values - reference).norm() / reference.norm())


@pytest.mark.parametrize("pool", [1, 2, 3])
@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("part_bytes", [1, 100_000, 2**30])
def test_gradients_are_those_of_the_textbooks_order_in_float64(
    pool: int, channels_last: bool, part_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cxrlab.models.fused._PART_BYTES", part_bytes)
    net = network(dropout=(0, 0, 0), pool=pool, channels_last=channels_last).double().train()
    expected = textbook(net, images(torch.float64))
    logits = net(images(torch.float64))

    assert off_by(logits, expected) < 1e-14
    for found, wanted in zip(gradients(net, logits), gradients(net, expected), strict=True):
        assert off_by(found, wanted) < 1e-12


def test_gradients_in_float32_are_as_close_to_float64_as_the_textbooks() -> None:
    net = network(dropout=(0, 0, 0)).train()
    exact = copy.deepcopy(net).double()
    reference = gradients(exact, textbook(exact, images(torch.float64)))

    for found, wanted in zip(gradients(net, net(images())), reference, strict=True):
        assert off_by(found, wanted) < 1e-5


def test_with_pytorchs_masks_a_seed_gives_the_textbooks_numbers() -> None:
    net = network(dropout=(0.25, 0.3, 0.5), fast_dropout=False).train()
    torch.manual_seed(7)
    logits = net(images())
    # PyTorch draws a mask in the memory order of what it masks, which is channels last here as there.
    torch.manual_seed(7)
    expected = textbook(net, images().contiguous(memory_format=torch.channels_last))

    assert off_by(logits, expected) < 1e-5
    for found, wanted in zip(gradients(net, logits), gradients(net, expected), strict=True):
        assert off_by(found, wanted) < 1e-5


def test_fast_masks_fused_or_not_are_the_same_random_numbers() -> None:
    fused, plain = network(dropout=(0.25, 0.3, 0)).train(), network(dropout=(0.25, 0.3, 0), fused=False).train()
    torch.manual_seed(7)
    logits = fused(images())
    torch.manual_seed(7)
    expected = plain(images())

    assert off_by(logits, expected) < 1e-5
    for found, wanted in zip(gradients(fused, logits), gradients(plain, expected), strict=True):
        assert off_by(found, wanted) < 1e-5


def test_bf16_autocast_is_as_close_to_float32_as_the_layers_one_by_one() -> None:
    fused, plain = network(dropout=(0, 0, 0)).train(), network(dropout=(0, 0, 0), fused=False).train()
    reference = gradients(plain, plain(images()))
    found = {}
    for name, net in {"fused": fused, "plain": plain}.items():
        with torch.autocast("cpu", torch.bfloat16):
            logits = net(images())
        assert logits.dtype == torch.bfloat16
        found[name] = gradients(net, logits)

    for ours, theirs, exact in zip(found["fused"], found["plain"], reference, strict=True):
        assert ours.dtype == torch.float32
        assert off_by(ours, exact) < 1.5 * off_by(theirs, exact) + 0.01


def test_images_get_their_gradient_where_it_is_wanted() -> None:
    net = network(dropout=(0, 0, 0)).train()
    found, expected = (images().requires_grad_() for _ in range(2))
    (gradient,) = torch.autograd.grad(net(found).sum(), found)
    (reference,) = torch.autograd.grad(textbook(net, expected).sum(), expected)

    assert off_by(gradient, reference) < 1e-5


def test_nothing_larger_than_the_pooled_output_is_kept_for_the_backward_pass() -> None:
    conv, pool, dropout = nn.Conv2d(3, 8, 3), nn.MaxPool2d(2), Dropout(0.25)
    kept: list[int] = []

    def note(tensor: Tensor) -> Tensor:
        kept.append(tensor.numel())
        return tensor

    x = images()
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        output = conv_pool_relu_dropout(x, conv, pool, dropout)

    assert output.shape == (6, 8, 14, 14)
    assert max(kept) == max(output.numel(), x.numel())  # the convolution's own output has four times as many


@pytest.mark.parametrize("training", [True, False])
def test_a_layer_that_is_watched_is_called(training: bool) -> None:
    net = network(dropout=(0, 0, 0)).train(training)
    seen: list[Tensor] = []
    alone = net(images())
    handle = net.conv2d_1.register_forward_hook(lambda _layer, _inputs, output: seen.append(output))
    watched = net(images())
    handle.remove()
    net(images())

    assert len(seen) == 1
    torch.testing.assert_close(watched, alone)


@pytest.mark.parametrize(("options", "fused"), [({}, True), ({"fused": False}, False), ({"norm": "batch"}, False)])
def test_fused_can_be_switched_off(options: dict[str, object], fused: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[nn.Module] = []

    def pool(layer: nn.MaxPool2d, x: Tensor) -> Tensor:
        calls.append(layer)
        return F.max_pool2d(x, layer.kernel_size)

    monkeypatch.setattr(nn.MaxPool2d, "forward", pool)
    network(**options).train()(images())
    assert bool(calls) != fused


def test_evaluation_is_the_textbooks_without_dropout() -> None:
    net = network(dropout=(0.5, 0.5, 0.5)).eval()
    with torch.inference_mode():
        torch.testing.assert_close(net(images()), textbook(net, images()))


@pytest.mark.filterwarnings("ignore")  # of the tracer, which is deprecated and draws TensorBoard's graphs
def test_a_traced_network_shows_its_layers() -> None:
    net = network().eval()
    traced = torch.jit.trace(net, (images(),))  # type: ignore[no-untyped-call]
    assert "max_pool2d" in str(traced.inlined_graph)
    assert "PythonOp" not in str(traced.inlined_graph)


def test_conv_relu_is_relu_of_conv_in_either_memory_order() -> None:
    conv = nn.Conv2d(3, 8, 3)
    for memory_format in (torch.channels_last, torch.contiguous_format):
        x = images().contiguous(memory_format=memory_format)
        assert torch.equal(conv_relu(x, conv), F.relu(conv(x)))
