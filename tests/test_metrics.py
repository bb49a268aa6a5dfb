"""The metrics against their definitions, against scikit-image, and against published numbers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from rethined.errors import InputError, WeightsError
from rethined.metrics import fid, image
from rethined.metrics.lpips import Lpips, Net

SHARED = Path(os.environ.get("RETHINED_SHARED", Path(__file__).parents[2] / "shared")) / "weights"
PACKAGED = Path(str(resources.files("rethined"))) / "assets"


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small pictures: threads only wait for each other, and on a busy machine for long."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def random_lpips(net: Net, seed: int = 0) -> Lpips:
    """LPIPS with random weights: enough for everything that does not ask for the published numbers."""
    torch.manual_seed(seed)
    model = Lpips(net)
    for name, parameter in model.named_parameters():
        if name.startswith("heads"):
            torch.nn.init.uniform_(parameter)
        elif name.endswith("weight"):
            torch.nn.init.kaiming_normal_(parameter)  # the usual start fades away before the deepest tap
    return model


def pictures(height: int, width: int, seed: int = 0) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Two uint8 pictures that are equal on the left and differ on the right."""
    rng = np.random.default_rng(seed)
    a = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    b = a.copy()
    right = b[:, width // 2 :]
    b[:, width // 2 :] = (right.astype(int) + rng.integers(-40, 40, right.shape)).clip(0, 255)
    return a, b


def tensor(picture: NDArray[np.uint8]) -> torch.Tensor:
    return torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255


# --- LPIPS ---


@pytest.mark.parametrize(("net", "want"), [("squeeze", (0.1024, 0.0938)), ("alex", (0.13117, 0.14196))])
def test_lpips_in_the_package_gives_published_values(net: Net, want: tuple[float, float]) -> None:
    """SqueezeNet's are in torchmetrics' documentation.

    AlexNet's are what the published weights give in single precision, with which PerceptualSimilarity's example
    pictures gave the published .722 and .138; rounding them to half precision moves these by less than 2e-5.
    """
    model = Lpips.load(net, PACKAGED / f"lpips_{net}.safetensors")
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    generator = torch.Generator().manual_seed(42)
    a = torch.rand(2, 3, 100, 100, generator=generator)
    b = torch.rand(2, 3, 100, 100, generator=generator)
    torch.testing.assert_close(model(a, b), torch.tensor(want), atol=5e-5, rtol=0)


def test_alex_is_its_definition() -> None:
    """A twin in plain functions."""
    path = PACKAGED / "lpips_alex.safetensors"
    w = {name: value.float() for name, value in load_file(path).items()}

    def conv(x: torch.Tensor, index: int, stride: int, padding: int) -> torch.Tensor:
        weight, bias = w[f"features.{index}.weight"], w[f"features.{index}.bias"]
        return F.conv2d(x, weight, bias, stride, padding).relu()

    def taps(x: torch.Tensor) -> list[torch.Tensor]:
        shift = torch.tensor([-0.030, -0.088, -0.188]).view(1, 3, 1, 1)
        scale = torch.tensor([0.458, 0.448, 0.450]).view(1, 3, 1, 1)
        first = conv((2 * x - 1 - shift) / scale, 0, 4, 2)
        second = conv(F.max_pool2d(first, 3, 2), 3, 1, 2)
        third = conv(F.max_pool2d(second, 3, 2), 6, 1, 1)
        fourth = conv(third, 8, 1, 1)
        return [first, second, third, fourth, conv(fourth, 10, 1, 1)]

    a, b = (tensor(picture) for picture in pictures(96, 80))
    want = torch.zeros(1)
    for index, (x, y) in enumerate(zip(taps(a), taps(b), strict=True)):
        x, y = F.normalize(x, dim=1), F.normalize(y, dim=1)
        want += ((x - y) ** 2 * w[f"lin{index}.model.1.weight"]).sum(1).mean((1, 2))
    torch.testing.assert_close(Lpips.load("alex", path)(a, b), want, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("net", ["alex", "squeeze"])
@pytest.mark.parametrize(("height", "width"), [(300, 145), (32, 417), (257, 128)])
def test_tiled_map_equals_untiled(net: Net, height: int, width: int) -> None:
    model = random_lpips(net)
    a, b = pictures(height, width)
    want = model.maps(tensor(a), tensor(b))[0, 0].numpy()
    assert want.shape == (height, width)
    # float32: convolutions of other sizes sum in another order.
    np.testing.assert_allclose(model.spatial_map_tiled(a, b, tile=128), want, atol=1e-5 * want.max())


def test_halo_is_needed() -> None:
    """The test above can fail: with too small a halo tiles do differ."""
    model = random_lpips("squeeze")
    a, b = pictures(240, 64)
    want = model.maps(tensor(a), tensor(b))[0, 0].numpy()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rethined.metrics.lpips.HALO", 16)
        got = model.spatial_map_tiled(a, b, tile=64)
    assert np.abs(got - want).max() > 1e-4 * want.max()


def test_lpips_in_hole_is_the_mean_of_the_map_there() -> None:
    model = random_lpips("alex")
    a, b = pictures(64, 96)
    mask = np.zeros((64, 96), bool)
    mask[10:30, 50:90] = True
    want = model.maps(tensor(a), tensor(b))[0, 0].numpy()[mask].mean()
    assert model.in_hole(a, b, mask) == pytest.approx(want, rel=1e-5)
    assert np.isnan(model.in_hole(a, b, np.zeros_like(mask)))
    assert model.in_hole(a, a, mask) == 0


@pytest.mark.parametrize("net", ["alex", "squeeze"])
def test_lpips_of_large_images_is_the_published_number(net: Net) -> None:
    model = random_lpips(net)
    a, b = pictures(300, 145)
    distances = model.compare(a, b, tile=128)
    assert distances.mean() == pytest.approx(float(model(tensor(a), tensor(b))), rel=1e-5)
    mask = np.random.default_rng(0).random((300, 145)) < 0.3
    sums = distances.sums_in(mask)
    assert sums.shape == (19, 10)  # cells of 16 x 16, the last ones smaller
    want = np.where(mask, distances.map(), 0)
    assert sums[2, 8] == pytest.approx(want[32:48, 128:144].sum(), rel=1e-5)
    assert sums[18, 9] == pytest.approx(want[288:, 144:].sum(), rel=1e-5)
    assert sums.sum() / mask.sum() == pytest.approx(distances.mean_in(mask))


def test_lpips_as_a_loss() -> None:
    model = random_lpips("squeeze")
    torch.nn.Sequential(model).train()
    assert not model.training
    a = torch.rand(2, 3, 64, 64, requires_grad=True)
    target = model.features(torch.rand(2, 3, 64, 64))
    full = torch.ones(2, 1, 64, 64)
    distance = model.distance(model.features(a), target)
    torch.testing.assert_close(model.distance(model.features(a), target, full), distance)
    half = full.clone()
    half[..., 32:] = 0
    assert not torch.allclose(model.distance(model.features(a), target, half), distance)
    assert (model.distance(model.features(a), target, 0 * full) == 0).all()
    flat = torch.full_like(a, 0.5)
    (distance.sum() + model(a * 0 + flat, flat).sum()).backward()
    assert a.grad is not None
    assert torch.isfinite(a.grad).all()
    assert a.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in model.parameters())


def test_lpips_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = random_lpips("alex")
    with pytest.raises(InputError, match="32 pixels"):
        model(torch.rand(1, 3, 31, 64), torch.rand(1, 3, 31, 64))
    a, b = pictures(31, 64)
    with pytest.raises(InputError, match="64x31"):
        model.spatial_map_tiled(a, b)
    with pytest.raises(InputError, match="uint8"):
        model.spatial_map_tiled(a, b.astype(np.float32))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="multiple of 16"):
        model.spatial_map_tiled(*pictures(64, 64), tile=100)
    with pytest.raises(InputError, match="alex or squeeze"):
        Lpips("vgg")  # type: ignore[arg-type]
    monkeypatch.delenv("RETHINED_BACKBONES", raising=False)
    assert torch.equal(Lpips.load("alex").heads[0], Lpips.load("alex", PACKAGED / "lpips_alex.safetensors").heads[0])
    # The folder of the variable comes before the package, even where it lacks the file.
    monkeypatch.setenv("RETHINED_BACKBONES", str(tmp_path))
    with pytest.raises(InputError, match=r"lpips_alex\.safetensors is not there.*AlexNet.*RETHINED_BACKBONES"):
        Lpips.load("alex")
    save_file({"features.0.weight": torch.zeros(1)}, tmp_path / "lpips_squeeze.safetensors")
    with pytest.raises(WeightsError, match="squeeze"):
        Lpips.load("squeeze")
    (tmp_path / "lpips_alex.safetensors").write_bytes(b"no")
    with pytest.raises(WeightsError, match="not a readable"):
        Lpips.load("alex")


# --- L1, PSNR, SSIM ---


def test_l1_and_psnr_are_their_definitions() -> None:
    a, b = pictures(300, 40)  # more rows than a strip
    mask = np.random.default_rng(0).random((300, 40)) < 0.3
    difference = a.astype(float) - b
    assert image.l1(a, b) == pytest.approx(np.abs(difference).mean() / 255)
    assert image.l1(a, b, mask) == pytest.approx(np.abs(difference[mask]).mean() / 255)
    assert image.psnr(a, b) == pytest.approx(10 * np.log10(255**2 / (difference**2).mean()))
    assert image.psnr(a, b, mask) == pytest.approx(10 * np.log10(255**2 / (difference[mask] ** 2).mean()))
    assert image.psnr(a, a) == np.inf
    empty = np.zeros_like(mask)
    assert all(np.isnan(metric(a, b, empty)) for metric in (image.l1, image.psnr, image.ssim))


def test_ssim_equals_scikit_image() -> None:
    metrics = pytest.importorskip("skimage.metrics")
    rng = np.random.default_rng(0)
    steps = np.cumsum(rng.integers(-6, 7, (2, 530, 70, 3)), axis=1)  # smooth, flat and dark parts: the hard ones
    a, b = (128 + steps).clip(0, 255).astype(np.uint8)
    b[:, :20] = a[:, :20]
    want, full = metrics.structural_similarity(
        a, b, channel_axis=2, data_range=255, gaussian_weights=True, use_sample_covariance=False, full=True
    )
    # float32 against float64.
    np.testing.assert_allclose(image.ssim_map(a, b), full.mean(2), atol=1e-4)
    assert image.ssim(a, b) == pytest.approx(want, abs=1e-5)
    mask = rng.random((530, 70)) < 0.2
    assert image.ssim(a, b, mask) == pytest.approx(full.mean(2)[mask].mean(), abs=1e-5)
    assert image.ssim(a, a) == 1


def test_image_metrics_refuse() -> None:
    a, b = pictures(20, 20)
    with pytest.raises(InputError, match="two uint8 images alike"):
        image.l1(a, b[:10])
    with pytest.raises(InputError, match="True = hole"):
        image.psnr(a, b, np.zeros((20, 20), np.uint8))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="at least 11"):
        image.ssim(a[:10], b[:10])


def test_all_image_metrics_at_once_are_the_single_ones() -> None:
    a, b = pictures(530, 40)
    mask = np.zeros((530, 40), bool)
    mask[250:300, 15:35] = True
    want = {"l1": image.l1(a, b), "psnr": image.psnr(a, b), "ssim": image.ssim(a, b)}
    want |= {
        "l1_hole": image.l1(a, b, mask),
        "psnr_hole": image.psnr(a, b, mask),
        "ssim_hole": image.ssim(a, b, mask),
    }
    assert image.measure(a, b, mask) == want
    assert want["ssim"] == pytest.approx(image.ssim_map(a, b)[5:-5, 5:-5].mean(), rel=1e-5)
    assert want["ssim_hole"] == pytest.approx(image.ssim_map(a, b)[mask].mean(), rel=1e-5)


# --- FID ---


@pytest.mark.parametrize("count", [6, 50])
def test_frechet_distance_is_its_formula(count: int) -> None:
    rng = np.random.default_rng(0)
    a = rng.normal(0, 1, (count, 12)) @ rng.normal(0, 1, (12, 12))
    b = rng.normal(0.5, 2, (count + 3, 12))
    covariances = np.cov(a.T), np.cov(b.T)
    root = np.sqrt(np.linalg.eigvals(covariances[0] @ covariances[1]).astype(complex)).sum().real
    want = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(covariances[0]) + np.trace(covariances[1]) - 2 * root
    # With 6 samples the product is singular and its eigenvalues, rooted, are the less exact side.
    assert fid.frechet_distance(a, b) == pytest.approx(want, rel=1e-5)
    assert fid.frechet_distance(a, a) == pytest.approx(0, abs=1e-9)
    with pytest.raises(InputError, match="FID got 1"):
        fid.frechet_distance(a[:1], b)


class PublishedInception:
    """The network as pytorch-fid and torch-fidelity publish it (torchvision's layers, FID's pooling), in functions.

    A layer's weights are drawn when it is first met, and collected in `tensors` by their published names.
    """

    def __init__(self) -> None:
        self.tensors: dict[str, torch.Tensor] = {}
        self.generator = torch.Generator().manual_seed(0)

    def conv(
        self, x: torch.Tensor, name: str, width: int, size: int | tuple[int, int], stride: int = 1, pad: bool = True
    ) -> torch.Tensor:
        kernel = (size, size) if isinstance(size, int) else size
        weight = torch.randn(width, x.shape[1], *kernel, generator=self.generator) / (x[0, :, 0, 0].numel() ** 0.5)
        gamma, beta, mean = (torch.rand(width, generator=self.generator) for _ in range(3))
        variance = 0.5 + torch.rand(width, generator=self.generator)
        self.tensors[f"{name}.conv.weight"] = weight
        named = {"weight": gamma, "bias": beta, "running_mean": mean, "running_var": variance}
        self.tensors |= {f"{name}.bn.{part}": value for part, value in named.items()}
        self.tensors[f"{name}.bn.num_batches_tracked"] = torch.tensor(0)
        padding = (kernel[0] // 2, kernel[1] // 2) if pad else 0
        x = F.conv2d(x, weight, None, stride, padding)
        return F.batch_norm(x, mean, variance, gamma, beta, eps=0.001).relu()

    def chain(self, x: torch.Tensor, name: str, *layers: tuple[int, int | tuple[int, int]]) -> torch.Tensor:
        for number, (width, size) in enumerate(layers, 1):
            x = self.conv(x, f"{name}_{number}", width, size)
        return x

    def __call__(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, 3, 299, 299) in [0, 1] to the features of 768 and 2048."""
        x = self.conv(2 * x - 1, "Conv2d_1a_3x3", 32, 3, 2, False)
        x = self.conv(x, "Conv2d_2a_3x3", 32, 3, 1, False)
        x = F.max_pool2d(self.conv(x, "Conv2d_2b_3x3", 64, 3), 3, 2)
        x = self.conv(x, "Conv2d_3b_1x1", 80, 1)
        x = F.max_pool2d(self.conv(x, "Conv2d_4a_3x3", 192, 3, 1, False), 3, 2)
        for name, width in (("Mixed_5b", 32), ("Mixed_5c", 64), ("Mixed_5d", 64)):
            pooled = F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
            branches = [
                self.conv(x, f"{name}.branch1x1", 64, 1),
                self.chain(x, f"{name}.branch5x5", (48, 1), (64, 5)),
                self.chain(x, f"{name}.branch3x3dbl", (64, 1), (96, 3), (96, 3)),
                self.conv(pooled, f"{name}.branch_pool", width, 1),
            ]
            x = torch.cat(branches, 1)
        double = self.chain(x, "Mixed_6a.branch3x3dbl", (64, 1), (96, 3))
        branches = [
            self.conv(x, "Mixed_6a.branch3x3", 384, 3, 2, False),
            self.conv(double, "Mixed_6a.branch3x3dbl_3", 96, 3, 2, False),
        ]
        x = torch.cat([*branches, F.max_pool2d(x, 3, 2)], 1)
        row, column = (1, 7), (7, 1)
        for name, c in (("Mixed_6b", 128), ("Mixed_6c", 160), ("Mixed_6d", 160), ("Mixed_6e", 192)):
            pooled = F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
            dbl = ((c, 1), (c, column), (c, row), (c, column), (192, row))
            branches = [
                self.conv(x, f"{name}.branch1x1", 192, 1),
                self.chain(x, f"{name}.branch7x7", (c, 1), (c, row), (192, column)),
                self.chain(x, f"{name}.branch7x7dbl", *dbl),
                self.conv(pooled, f"{name}.branch_pool", 192, 1),
            ]
            x = torch.cat(branches, 1)
        middle = x.mean((2, 3))
        single = self.conv(x, "Mixed_7a.branch3x3_1", 192, 1)
        double = self.chain(x, "Mixed_7a.branch7x7x3", (192, 1), (192, row), (192, column))
        branches = [
            self.conv(single, "Mixed_7a.branch3x3_2", 320, 3, 2, False),
            self.conv(double, "Mixed_7a.branch7x7x3_4", 192, 3, 2, False),
        ]
        x = torch.cat([*branches, F.max_pool2d(x, 3, 2)], 1)
        for name in ("Mixed_7b", "Mixed_7c"):
            average = F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
            pooled = average if name == "Mixed_7b" else F.max_pool2d(x, 3, 1, 1)
            single = self.conv(x, f"{name}.branch3x3_1", 384, 1)
            double = self.chain(x, f"{name}.branch3x3dbl", (448, 1), (384, 3))
            branches = [
                self.conv(x, f"{name}.branch1x1", 320, 1),
                *(
                    self.conv(single, f"{name}.branch3x3_2{side}", 384, k)
                    for side, k in (("a", (1, 3)), ("b", (3, 1)))
                ),
                *(self.conv(double, f"{name}.branch3x3dbl_3{s}", 384, k) for s, k in (("a", (1, 3)), ("b", (3, 1)))),
                self.conv(pooled, f"{name}.branch_pool", 192, 1),
            ]
            x = torch.cat(branches, 1)
        return middle, x.mean((2, 3))


def test_the_whole_inception_is_the_published_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    published = PublishedInception()
    picture = np.random.default_rng(0).integers(0, 256, (299, 299, 3), dtype=np.uint8)
    middle, end = published(tensor(picture))
    published.tensors["fc.weight"] = torch.zeros(1008, 2048)  # the classifier, which FID does not use
    torch.save(published.tensors, tmp_path / fid.FILES[0])
    save_file({"conv.weight": torch.zeros(1)}, tmp_path / fid.FILES[2])
    monkeypatch.setenv("RETHINED_BACKBONES", str(tmp_path))
    model = fid.Inception.load()  # the whole one comes first
    assert model.label == "FID"
    np.testing.assert_allclose(fid.features(model, [picture])[0], end[0], rtol=1e-3, atol=1e-5 * float(end.max()))
    late = ("mixed_8", "mixed_9", "mixed_10")
    half = {name: value for name, value in fid._folded(published.tensors).items() if not name.startswith(late)}
    model = fid.Inception(half)
    assert model.label == "FID-768"
    got = fid.features(model, [picture])[0]
    np.testing.assert_allclose(got, middle[0], rtol=1e-3, atol=1e-5 * float(middle.max()))
    if (shared := SHARED / fid.FILES[2]).is_file():  # the real one has these layers, of these shapes
        shapes = {name: tuple(value.shape) for name, value in load_file(shared).items()}
        assert shapes == {name: tuple(value.shape) for name, value in half.items()}
    del published.tensors["Mixed_7c.branch_pool.conv.weight"]
    torch.save(published.tensors, tmp_path / "part.pth")
    with pytest.raises(WeightsError, match="lacks a layer"):
        fid.Inception.load(tmp_path / "part.pth")
    (tmp_path / "bad.pth").write_bytes(b"no")
    with pytest.raises(WeightsError, match=r"bad\.pth is not a file of tensors"):
        fid.Inception.load(tmp_path / "bad.pth")
    torch.save([1], tmp_path / "list.pth")
    with pytest.raises(WeightsError, match="no dictionary of tensors"):
        fid.Inception.load(tmp_path / "list.pth")


@pytest.mark.parametrize(("height", "width"), [(120, 90), (299, 700), (1000, 50)])
def test_images_are_resized_as_pytorch_fid_does(height: int, width: int) -> None:
    a, _ = pictures(height, width)
    want = F.interpolate(tensor(a), (299, 299), mode="bilinear", align_corners=False)
    torch.testing.assert_close(fid._reduced(a), want, atol=1e-5, rtol=0)


def test_fid768_refuses_without_its_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RETHINED_BACKBONES", raising=False)
    with pytest.raises(InputError, match=r"inception2015_768\.safetensors.*Inception-v3.*RETHINED_BACKBONES"):
        fid.Inception.load()
    monkeypatch.setenv("RETHINED_BACKBONES", str(tmp_path))
    with pytest.raises(InputError, match=r"inception2015_768\.safetensors is not there"):
        fid.Inception.load()


def test_fid768_grows_with_blur() -> None:
    """The order, and the scale, of the numbers: a wrong branch order in Inception would scramble them."""
    path = SHARED / "inception2015_768.safetensors"
    if not path.is_file():
        pytest.skip(f"needs {path} (set RETHINED_SHARED)")
    model = fid.Inception.load(path)
    rng = np.random.default_rng(0)
    sharp = [np.kron(rng.integers(0, 256, (8, 8, 3)), np.ones((12, 12, 1))).astype(np.uint8) for _ in range(6)]
    soft = [picture // 8 * 8 for picture in sharp]
    none = [np.full_like(picture, picture.mean()) for picture in sharp]
    features = [fid.features(model, pictures_, batch=4) for pictures_ in (sharp, soft, none)]
    assert features[0].shape == (6, 768)
    near, far = (fid.frechet_distance(features[0], other) for other in features[1:])
    assert 0 < near < 0.1 * far


def test_crops_are_inside_and_around_the_hole() -> None:
    mask = np.zeros((100, 300), bool)
    mask[:5, :5] = mask[90:, 200:220] = True
    boxes = fid.crops(mask, 20, 64, np.random.default_rng(0))
    assert len(boxes) == 20
    assert all(mask[box].shape == (64, 64) and mask[box].any() for box in boxes)
    assert mask[fid.crops(mask, 1, 128, np.random.default_rng(0))[0]].shape == (100, 128)
    assert fid.crops(np.zeros_like(mask), 3, 64, np.random.default_rng(0)) == []
