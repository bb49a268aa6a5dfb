"""Every equation against its slow loop, and the deployed form against the trained one."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import reference
import torch
import torch.nn.functional as F
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from rethined.config import DEFAULT, PAPER, ModelConfig
from rethined.errors import WeightsError
from rethined.masks import free_form
from rethined.model import Rethined
from rethined.model.blocks import RepConv, fused
from rethined.model.coarse import beside_thick, calmed, pull_push, spread
from rethined.model.patch_match import (
    Attention,
    contributions,
    corrupted_patches,
    flatten_rows,
    mix,
    patchify,
    unpatchify,
    window,
)
from rethined.model.pipeline import Core, fine_detail
from rethined.model.upscale import upscale

DENSE = dataclasses.replace(DEFAULT, search=False)
SMALL = dataclasses.replace(DEFAULT, widths=(8, 16, 16, 24), depths=(1, 1, 1, 1))


def hole(height: int, width: int, seed: int = 0, coverage: tuple[float, float] = (0.1, 0.3)) -> torch.Tensor:
    mask = free_form(height, width, np.random.default_rng(seed), coverage=coverage)
    return torch.from_numpy(mask)[None, None].float()


def lively(model: nn.Module, seed: int = 0) -> nn.Module:
    """Random everything, batch norm statistics and zero-initialised heads included."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3, generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
            module.weight.data.uniform_(0.5, 1.5, generator=generator)
            module.bias.data.normal_(0, 0.3, generator=generator)
    for parameter in model.parameters():
        if not parameter.any():
            parameter.data.normal_(0, 0.02, generator=generator)
    return model.eval()


@pytest.mark.parametrize("branches", [1, 4])
@pytest.mark.parametrize("activation", [True, False])
@pytest.mark.parametrize(
    ("inputs", "outputs", "kernel", "stride", "groups"),
    [
        (8, 8, 3, 1, 8),  # depthwise, with identity
        (8, 8, 3, 2, 8),  # depthwise, strided
        (8, 8, 3, 1, 1),  # dense, with identity
        (8, 8, 3, 1, 2),  # grouped, with identity
        (8, 12, 3, 1, 4),
        (8, 8, 1, 1, 1),  # pointwise, with identity
        (8, 12, 1, 1, 1),
        (4, 8, 4, 4, 1),  # the stem
    ],
)
def test_fused_block_is_the_same_function(
    inputs: int, outputs: int, kernel: int, stride: int, groups: int, activation: bool, branches: int
) -> None:
    block = RepConv(inputs, outputs, kernel, stride=stride, groups=groups, branches=branches, activation=activation)
    lively(block)
    x = torch.randn(2, inputs, 16, 16, generator=torch.Generator().manual_seed(1))
    plain = block.fused()
    assert sum(isinstance(m, nn.Conv2d) for m in plain.modules()) == 1
    assert not any(isinstance(m, nn.BatchNorm2d) for m in plain.modules())
    torch.testing.assert_close(plain(x), block(x), rtol=1e-4, atol=1e-5)


def test_the_deployed_core_returns_what_the_search_asks() -> None:
    model = Core(lively(Rethined(SMALL))).model  # rounded already: once more changes nothing
    image, mask, detail = torch.rand(1, 3, 64, 96), hole(64, 96), torch.rand(1, 6, 8, 12)
    with torch.no_grad():
        low, query, key = Core(model)(image * (1 - mask), mask, detail)
        coarse, features, _ = model.coarse(image * (1 - mask), mask)
        want = model.patch_match.embed(coarse, features, detail, F.max_pool2d(mask, 8))
    torch.testing.assert_close(low, coarse, rtol=1e-4, atol=1e-5)
    for got, wanted in zip((query, key), want, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(got.norm(dim=1), torch.ones(1, 8, 12))


@pytest.mark.parametrize("config", [SMALL, dataclasses.replace(PAPER, widths=SMALL.widths, depths=SMALL.depths)])
def test_fused_model_is_the_same_function(config: ModelConfig) -> None:
    model = lively(Rethined(config))
    image, mask = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(0)), hole(64, 96)
    deployed = fused(model)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in deployed.modules())
    assert any(isinstance(m, nn.BatchNorm2d) for m in model.modules()), "the original was changed"
    torch.testing.assert_close(deployed(image, mask), model(image, mask), rtol=1e-3, atol=1e-4)


def test_blocks_are_fused_where_their_weights_lie() -> None:
    deployed = Rethined(SMALL).to("meta").fused_copy()
    assert {parameter.device.type for parameter in deployed.parameters()} == {"meta"}


def test_default_is_within_the_papers_parameters() -> None:
    assert sum(p.numel() for p in Rethined(DEFAULT).parameters()) <= 4.3e6


def test_patchify_and_back() -> None:
    image = torch.rand(2, 3, 16, 24)
    tokens = patchify(image, 8)
    assert tokens.shape == (2, 6, 192)
    torch.testing.assert_close(tokens, F.pixel_unshuffle(image, 8).flatten(2).transpose(1, 2))
    torch.testing.assert_close(unpatchify(tokens, 8, (2, 3)), image)


def test_a_patch_is_corrupted_if_any_pixel_is() -> None:
    mask = hole(64, 48, 3)
    want = reference.corrupted(mask[0, 0].numpy() > 0, 8)
    np.testing.assert_array_equal(corrupted_patches(mask, 8)[0].numpy(), want.reshape(-1))


@pytest.mark.parametrize("top_k", [1, 3, 0])
def test_attention_is_equation_1(top_k: int) -> None:
    match = lively(Rethined(dataclasses.replace(SMALL, top_k=top_k))).patch_match
    generator = torch.Generator().manual_seed(0)
    query, key = (torch.randn(1, 24, 16, generator=generator) for _ in range(2))
    bad = corrupted_patches(hole(32, 48, 1), 8)
    got = match.attend(*match.corrupted_scores(query, key, bad), bad)
    dense = torch.zeros(24, 24).scatter_add(1, got.source[0], got.weight[0].detach())
    want = reference.attention(query[0].double().numpy(), key[0].double().numpy(), bad[0].numpy(), top_k)
    np.testing.assert_allclose(dense.numpy(), want, atol=1e-5)  # float32 against float64
    if top_k:
        sparse = match.attend_rows(query, key, bad)
        torch.testing.assert_close(sparse.source, got.source)
        torch.testing.assert_close(sparse.weight, got.weight)


def random_attention(bad: torch.Tensor, k: int, seed: int = 0) -> Attention:
    """Any k known sources for each corrupted patch: (1, N, k)."""
    rng = np.random.default_rng(seed)
    known = np.flatnonzero(~bad[0].numpy())
    count = bad.shape[1]
    source = np.repeat(np.arange(count)[:, None], k, 1)
    weight = np.zeros((count, k), np.float32)
    weight[:, 0] = 1
    for i in np.flatnonzero(bad[0].numpy()):
        source[i] = rng.choice(known, k, replace=False)
        weight[i] = rng.dirichlet(np.ones(k))
    return Attention(torch.from_numpy(source)[None], torch.from_numpy(weight)[None])


def dense(attention: Attention) -> np.ndarray:
    count = attention.source.shape[1]
    return torch.zeros(count, count).scatter_add(1, attention.source[0], attention.weight[0]).numpy()


def test_a_query_starts_as_what_the_keys_around_diffuse() -> None:
    config = dataclasses.replace(SMALL, diffusion=True)
    match = lively(Rethined(config)).patch_match
    grid = (5, 6)  # not a multiple of the pyramid's cells
    coarse, detail = torch.rand(1, 3, 10, 12), torch.rand(1, 6, *grid)
    features = [torch.zeros(1, w, 40 // s, 48 // s) for w, s in zip(config.widths, (4, 8, 16, 32), strict=True)]
    cells = torch.zeros(1, 1, *grid)
    cells.view(30)[7:10] = 1
    with torch.no_grad():
        query, _ = match.embed(coarse, features, detail, cells)
        other = coarse.clone()
        other[:, :, :2, :2] += 0.3  # of a known patch beside the hole
        changed, _ = match.embed(other, features, detail, cells)
        hidden = detail.clone()
        hidden.view(1, 6, 30)[:, :, 7:10] += 1  # nobody knows the detail of a hole
        same, _ = match.embed(coarse, features, hidden, cells)
    assert not torch.allclose(query[..., 1, 1], changed[..., 1, 1])
    torch.testing.assert_close(query, same)


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_fine_detail_is_its_loop(scale: int) -> None:
    rng = np.random.default_rng(0)
    image, mask = rng.random((16 * scale, 24 * scale, 3)), np.zeros((16 * scale, 24 * scale), bool)
    mask[3 * scale : 5 * scale, 9 * scale : 11 * scale] = True
    want = reference.fine_detail(image * ~mask[..., None], scale, 8)
    got = fine_detail(
        torch.from_numpy(image).permute(2, 0, 1)[None], torch.from_numpy(mask)[None, None].double(), scale, 8
    )
    np.testing.assert_allclose(got[0].permute(1, 2, 0).numpy(), want, atol=1e-9)


@pytest.mark.parametrize("overlap", [True, False])
@pytest.mark.parametrize("k", [1, 3])
def test_token_mixing_is_equation_2(k: int, overlap: bool) -> None:
    mask = hole(48, 64, 2, (0.2, 0.4))
    image = torch.rand(1, 3, 48, 64, generator=torch.Generator().manual_seed(0))
    bad = corrupted_patches(mask, 8)
    attention = random_attention(bad, k)
    rows = torch.nonzero(bad.flatten())[:, 0]
    heard = flatten_rows(contributions(attention, bad, (6, 8), overlap), rows)
    tokens = patchify(image, 8)[0]
    mixed = tokens.index_copy(0, rows, mix(tokens, heard, window(8, overlap)))
    got = unpatchify(mixed[None], 8, (6, 8))[0].permute(1, 2, 0).numpy()
    want = reference.mixture(
        image[0].permute(1, 2, 0).double().numpy(), dense(attention), bad[0].view(6, 8).numpy(), 8, overlap
    )
    np.testing.assert_allclose(got, want, atol=1e-5)


def test_wide_softmax_mixing_takes_the_same_values() -> None:
    bad = corrupted_patches(hole(48, 64, 2), 8)
    attention = random_attention(bad, 20)
    rows = torch.nonzero(bad.flatten())[:, 0]
    heard = flatten_rows(attention, rows)
    tokens = torch.rand(48, 192)
    want = torch.from_numpy(dense(attention)).index_select(0, rows) @ tokens
    torch.testing.assert_close(mix(tokens, heard, window(8, False)), want)


class Largest(TorchDispatchMode):
    """How many numbers the largest result has of all that is computed."""

    numbers = 0

    def __torch_dispatch__(self, func: Any, types: object, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor):
            self.numbers = max(self.numbers, result.numel())
        return result


def test_wide_softmax_mixing_is_picture_by_picture() -> None:
    """Of a batch of 128, one matrix would take gigabytes. A picture may have no hole, or nothing else."""
    masks = [hole(48, 64, 2), torch.zeros(1, 1, 48, 64), hole(48, 64, 3), torch.ones(1, 1, 48, 64)]
    bad = corrupted_patches(torch.cat(masks), 8)
    nothing = Attention(torch.arange(48)[None, :, None].expand(1, 48, 20), torch.zeros(1, 48, 20))
    each = [random_attention(one, 20) if not one.all() else nothing for one in torch.split(bad, 1)]
    attention = Attention(*(torch.cat(values) for values in zip(*each, strict=True)))
    rows = torch.nonzero(bad.flatten())[:, 0]
    generator = torch.Generator().manual_seed(0)
    tokens = torch.rand(4 * 48, 12, generator=generator)
    weight = attention.weight.requires_grad_()
    with Largest() as largest:
        got = mix(tokens, flatten_rows(attention, rows), window(2, False))
        (slope,) = torch.autograd.grad(got.square().sum(), weight)
    assert largest.numbers <= 4 * 48 * 48
    single = weight.detach().clone().requires_grad_()
    parts = []
    for i in range(4):
        one = Attention(attention.source[i : i + 1], single[i : i + 1])
        parts.append(mix(tokens[48 * i :][:48], flatten_rows(one, torch.nonzero(bad[i])[:, 0]), window(2, False)))
    want = torch.cat(parts)
    torch.testing.assert_close(got, want)
    torch.testing.assert_close(slope, torch.autograd.grad(want.square().sum(), single)[0])


@pytest.mark.parametrize(
    ("overlap", "k", "scale", "band"), [(True, 1, 2, 4), (True, 2, 3, 1), (False, 2, 2, 1), (False, 1, 3, 4)]
)
def test_upscaling_is_equations_3_and_4(overlap: bool, k: int, scale: int, band: int) -> None:
    """High frequencies mixed by the same attention, added to the upsampled low band."""
    config = dataclasses.replace(SMALL, search=False, overlap=overlap, band=band)
    mask = hole(32 * scale, 40 * scale, 5, (0.2, 0.3))
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(1, 3, 32 * scale, 40 * scale, generator=generator)
    low = torch.rand(1, 3, 32 // band, 40 // band, generator=generator)
    mask_lr = F.max_pool2d(mask, scale)
    bad = corrupted_patches(mask_lr, 8)
    attention = random_attention(bad, k)
    got = upscale(config, image, mask, mask_lr, low, attention)[0].permute(1, 2, 0).numpy()

    grid = bad[0].view(4, 5).numpy()
    x, lo = (t[0].permute(1, 2, 0).double().numpy() for t in (image, low))
    weights = dense(attention)
    side = 8 // band
    inside = np.kron(grid, np.ones((side, side)))[..., None]
    correction = (lo - reference.mixture(lo, weights, grid, side, overlap)) * inside
    want = reference.mixture(x, weights, grid, 8 * scale, overlap) + reference.upsample(correction, scale * band)
    want = np.where(mask[0, 0].numpy()[..., None] > 0, want.clip(0, 1), x)
    np.testing.assert_allclose(got, want, atol=1e-5)


@pytest.mark.parametrize("coverage", [(0.1, 0.2), (0.6, 0.8)])
def test_pull_push_is_its_loop(coverage: tuple[float, float]) -> None:
    image, mask = (
        torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(0)),
        hole(64, 96, 1, coverage),
    )
    got = pull_push(image, 1 - mask, 5)[0].permute(1, 2, 0).numpy()
    want = reference.pull_push(image[0].permute(1, 2, 0).double().numpy(), mask[0, 0].numpy() > 0, 5)
    np.testing.assert_allclose(got, want, atol=1e-5)
    known = mask[0, 0].numpy() == 0
    np.testing.assert_array_equal(got[known], image[0].permute(1, 2, 0).numpy()[known])


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("side", [1, 2, 4])
def test_cells_are_spread_over_pixels(side: int, batch: int) -> None:
    cells, mask = torch.rand(batch, 3, 5, 7), torch.rand(batch, 1, 5 * side, 7 * side)
    want = cells.repeat_interleave(side, 2).repeat_interleave(side, 3) * mask
    assert torch.equal(spread(cells, mask), want)
    assert torch.equal(spread(cells, mask, by_rows=False), want)


@pytest.mark.parametrize("band", [1, 4])
def test_an_untrained_network_is_the_pull_push_fill(band: int) -> None:
    model = Rethined(dataclasses.replace(SMALL, search=False, band=band)).eval()
    image, mask = torch.rand(1, 3, 64, 64), hole(64, 64)
    with torch.no_grad():
        coarse = model.coarse(image * (1 - mask), mask).image
        means, weight, _ = model.coarse.known(image * (1 - mask), mask)
    torch.testing.assert_close(coarse, pull_push(means, weight, 5 if band == 1 else 3))
    whole = (F.max_pool2d(mask, band) == 0).expand_as(coarse)
    torch.testing.assert_close(coarse[whole], F.avg_pool2d(image, band)[whole])


@pytest.mark.parametrize("variant", [DENSE, PAPER, dataclasses.replace(DENSE, top_k=3)])
def test_exported_form_is_the_trained_form(variant: ModelConfig) -> None:
    """`Core` touches corrupted rows and known columns only, in batches of one; `Rethined` is dense."""
    torch.manual_seed(0)  # of other inputs one in hundreds has two sources about as good, which rounding decides
    config = dataclasses.replace(variant, widths=SMALL.widths, depths=SMALL.depths, top_k=variant.top_k)
    model = Core(lively(Rethined(config))).model  # rounded already: once more changes nothing
    image, mask = torch.rand(2, 3, 64, 96), torch.cat([hole(64, 96, 0), hole(64, 96, 7)])
    with torch.no_grad():
        whole = model(image, mask)
        for i in range(2):
            one, hole_lr = image[i : i + 1], mask[i : i + 1]
            detail = fine_detail(one, hole_lr, 1, config.patch_size) if config.detail else None
            low, source, weight = Core(model)(one * (1 - hole_lr), hole_lr, detail)
            attention = Attention(source[None].long(), weight[None])
            part = upscale(config, one, hole_lr, hole_lr, low, attention)
            torch.testing.assert_close(part, whole[i : i + 1], rtol=1e-4, atol=1e-4)
            known = int((F.max_pool2d(hole_lr, config.patch_size) == 0).sum())
            assert source.shape == weight.shape == (96, config.top_k or known)
            torch.testing.assert_close(weight.sum(1), torch.ones(96))


class WithoutGpu(TorchFunctionMode):
    """What PyTorch asks a GPU itself for, in operations that it does not ask."""

    def __torch_function__(self, func: Any, types: object, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.Tensor.__getitem__:
            return self.part(*args)
        if func is torch.Tensor.__invert__:
            return torch.logical_not(*args)
        if func is torch.nonzero:  # how many there are only the numbers say: a half
            return torch.zeros(args[0].numel() // 2, args[0].dim(), dtype=torch.int64, device=args[0].device)
        return func(*args, **(kwargs or {}))

    @staticmethod
    def part(x: torch.Tensor, index: object) -> torch.Tensor:
        parts = list(index) if isinstance(index, tuple) else [index]
        if all(isinstance(part, torch.Tensor) for part in parts):
            return torch.ops.aten.index.Tensor(x, parts)
        if Ellipsis in parts:
            at = parts.index(Ellipsis)
            parts[at : at + 1] = [slice(None)] * (x.dim() - sum(part is not None for part in parts) + 1)
        axis = 0
        for part in parts:
            if part is None:
                x = x.unsqueeze(axis)
            elif isinstance(part, slice):
                x = torch.ops.aten.slice.Tensor(x, axis, part.start, part.stop, part.step or 1)
            else:
                x = torch.ops.aten.select.int(x, axis, part)
                continue
            axis += 1
        return x


@pytest.mark.parametrize("config", [SMALL, dataclasses.replace(PAPER, widths=SMALL.widths, depths=SMALL.depths)])
def test_nothing_is_left_on_the_processor(config: ModelConfig) -> None:
    """The core, as validation runs it, on a GPU that is not there: tensors of nothing but a size and a device."""
    core = Core(Rethined(config)).eval()
    with FakeTensorMode(), WithoutGpu(), torch.no_grad():

        def moved(tensor: torch.Tensor) -> torch.Tensor:
            return torch.empty(tuple(tensor.shape), dtype=tensor.dtype, device="cuda")

        for module in core.modules():
            for name, parameter in module.named_parameters(recurse=False):
                module._parameters[name] = nn.Parameter(moved(parameter))
            for name, buffer in module.named_buffers(recurse=False):
                module._buffers[name] = moved(buffer)
        detail = torch.empty(1, 6, 8, 12, device="cuda") if config.detail else None
        outputs = core(torch.empty(1, 3, 64, 96, device="cuda"), torch.empty(1, 1, 64, 96, device="cuda"), detail)
        assert [output.device.type for output in outputs] == ["cuda"] * 3


@pytest.mark.parametrize("config", [SMALL, dataclasses.replace(PAPER, widths=SMALL.widths, depths=SMALL.depths)])
def test_full_and_empty_masks(config: ModelConfig) -> None:
    model = lively(Rethined(config))
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(model(image, torch.zeros(1, 1, 64, 64)), image)
        assert torch.isfinite(model(image, torch.ones(1, 1, 64, 64))).all()


def test_hole_content_never_matters() -> None:
    model = lively(Rethined(SMALL))
    image, mask = torch.rand(1, 3, 64, 64), hole(64, 64)
    other = image * (1 - mask) + mask * torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        inside = mask.expand_as(image) > 0
        assert torch.equal(model(image, mask)[inside], model(other, mask)[inside])


@pytest.mark.parametrize("field", [f.name for f in dataclasses.fields(ModelConfig)])
def test_every_field_changes_something(field: str) -> None:
    other = {
        "patch_size": 16,
        "widths": (8, 16, 16, 32),
        "depths": (1, 1, 1, 2),
        "branches": 2,
        "key_dim": 8,
        "feature_conditioning": False,
        "diffusion": False,
        "detail": False,
        "search": False,
        "top_k": 2,
        "overlap": False,
        "band": 1,
    }[field]
    image, mask = torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(0)), hole(128, 128)

    base = SMALL if field == "search" else dataclasses.replace(SMALL, search=False)

    def run(config: ModelConfig) -> torch.Tensor:
        torch.manual_seed(0)
        model = lively(Rethined(config))
        with torch.no_grad():
            if field == "search":  # it changes what is deployed, not what is trained
                detail = fine_detail(image, mask, 1, config.patch_size)
                return Core(model)(image * (1 - mask), mask, detail)[1]
            return model(image, mask, 2)

    assert not torch.equal(run(base), run(dataclasses.replace(base, **{field: other})))


def test_config_round_trip_and_versions() -> None:
    assert ModelConfig.from_json(PAPER.to_json()) == PAPER
    for text in ("", "[]", "{}", '{"version": 3, "colour": 3}', '{"version": 3, "band": 3}'):
        with pytest.raises(WeightsError):
            ModelConfig.from_json(text)
    with pytest.raises(WeightsError, match="upgrade rethined"):
        ModelConfig.from_json(DEFAULT.to_json().replace('"version": 3', '"version": 99'))
    with pytest.raises(WeightsError, match="export the weights again"):
        ModelConfig.from_json(DEFAULT.to_json().replace('"version": 3', '"version": 2'))


def test_half_precision_is_finite_and_close() -> None:
    model = lively(Rethined(SMALL))
    image, mask = torch.rand(1, 3, 64, 64), hole(64, 64, 1, (0.3, 0.5))
    with torch.no_grad():
        coarse = model.coarse(image, mask).image
        half = model.half().coarse(image.half(), mask.half()).image
    assert torch.isfinite(half).all()
    assert (half.float() - coarse).abs().max() < 0.02


def test_the_network_is_calmed_deep_inside_holes_only() -> None:
    residual, cells = torch.randn(1, 3, 32, 32), torch.zeros(1, 1, 32, 32)
    cells[..., 4:28, 4:28] = 1
    got = calmed(residual, cells)
    torch.testing.assert_close(got[..., :6, :], residual[..., :6, :])
    torch.testing.assert_close(got[..., 14, 12], residual[..., 12:17, 10:15].mean((2, 3)))


def test_scratches_and_specks_are_left_to_the_pull_push_fill() -> None:
    """A slow loop says around which cells nothing is known of five or more."""
    known = torch.tensor(np.random.default_rng(0).choice([0, 0.25, 1, 1], (1, 1, 24, 24)), dtype=torch.float32)
    known[..., :12, :] = 1
    known[..., 2, 4:8] = known[..., 6:8, 14:16] = 0  # four cells
    want = torch.zeros(24, 24)
    for y in range(24):
        for x in range(24):
            around = known[0, 0, max(y - 2, 0) : y + 3, max(x - 2, 0) : x + 3]
            want[y, x] = float((around == 0).sum() >= 5)
    got = beside_thick(known)[0, 0]
    assert torch.equal(got, want)
    assert not got[:8].any()
    assert 0 < got[12:].mean() < 1
    # The model's part: with any weights, a hole of one cell is filled by pull-push, a larger one is not.
    model = Rethined(DEFAULT).eval()
    torch.nn.init.normal_(model.coarse.head.weight)
    image, mask = torch.rand(1, 3, 64, 64), torch.zeros(1, 1, 64, 64)
    mask[..., 9:13, 8:40] = 1
    mask[..., 40:56, 32:52] = 1
    with torch.no_grad():
        got = model.coarse(image * (1 - mask), mask).image
        base = pull_push(*model.coarse.known(image * (1 - mask), mask)[:2], model.coarse.levels)
    assert torch.equal(got[..., :9, :], base[..., :9, :])
    assert ((got - base)[..., 10:14, 8:13].abs().amin(1) > 1e-3).all()


def test_a_hole_may_begin_in_the_first_patch() -> None:
    model = lively(Rethined(dataclasses.replace(SMALL, search=False)))
    image, mask = torch.rand(1, 3, 64, 96), torch.zeros(1, 1, 64, 96)
    mask[..., :30, :50] = 1
    with torch.no_grad():
        _, source, _ = Core(model)(image * (1 - mask), mask, torch.rand(1, 6, 8, 12))
    bad = corrupted_patches(mask, 8)[0]
    assert not bad[source[bad, 0].long()].any()
