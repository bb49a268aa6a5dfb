"""What makes several processes equal to one with all their pictures."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor, nn


@torch.library.custom_op("rethined::sum_of_processes", mutates_args=())
def sum_of_processes(x: Tensor) -> Tensor:
    """The sum of all processes' `x`, and of their gradients. PyTorch's own sum with gradients cannot be compiled."""
    total = x.clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total)
    return total


sum_of_processes.register_fake(torch.empty_like)
sum_of_processes.register_autograd(lambda context, gradient: sum_of_processes(gradient))


class SyncedBatchNorm(nn.BatchNorm2d):
    """Batch norm whose statistics are those of all processes' pictures (PyTorch's own runs on GPUs only)."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        values = x.float()
        count = x.numel() // x.shape[1] * dist.get_world_size()
        sums = torch.stack([values.sum((0, 2, 3)), values.square().sum((0, 2, 3))])
        mean, square = sum_of_processes(sums) / count
        variance = (square - mean.square()).clamp(min=0)
        with torch.no_grad():
            assert self.running_mean is not None
            assert self.running_var is not None
            assert self.num_batches_tracked is not None
            assert self.momentum is not None
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * count / (count - 1), self.momentum)
            self.num_batches_tracked += 1
        scale = self.weight * torch.rsqrt(variance + self.eps)
        shift = self.bias - mean * scale
        return torch.addcmul(shift[:, None, None], values, scale[:, None, None]).to(x.dtype)


def synchronise(model: nn.Module) -> None:
    """Share the statistics of every batch norm in `model`, in place, if there are several processes."""
    if dist.is_initialized() and dist.get_world_size() > 1:
        for module in model.modules():
            if type(module) is nn.BatchNorm2d:
                module.__class__ = SyncedBatchNorm  # the same parameters and buffers under the same names


def average_gradients(parameters: list[nn.Parameter]) -> None:
    """The mean over processes, in one message: of a mean per process, the gradient of the mean of all."""
    if not (dist.is_initialized() and dist.get_world_size() > 1):
        return
    gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for p in parameters]
    flat = torch.cat([gradient.reshape(-1) for gradient in gradients]) / dist.get_world_size()
    dist.all_reduce(flat)
    parts = torch.split(flat, [p.numel() for p in parameters])
    for parameter, part in zip(parameters, parts, strict=True):
        parameter.grad = part.view_as(parameter).clone(memory_format=torch.preserve_format)
