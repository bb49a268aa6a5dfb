"""What a set of weights is: the architecture, frozen, carried inside every weight file."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any

from rethined.errors import WeightsError

VERSION = 3
"""Format of the JSON below; a file with a higher number was written by a newer rethined."""


@dataclass(frozen=True)
class ModelConfig:
    """Architecture of one RETHINED model. Every field has one effect; sizes are derived, never retyped.

    Raises:
        ValueError: fields that contradict each other.
    """

    patch_size: int = 8
    """Side P of a patch (a token), in low-resolution pixels (3.3)."""
    widths: tuple[int, ...] = (48, 96, 192, 320)
    """Channels of the coarse network at strides 4, 8, 16, ... (3.2)."""
    depths: tuple[int, ...] = (1, 2, 3, 4)
    """Blocks of the coarse network at each of these strides, in the encoder and again in the decoder."""
    branches: int = 1
    """Over-parameterised branches of every convolution while training (3.5)."""
    key_dim: int = 32
    """Width d_k of queries and keys (Eq. 1)."""
    feature_conditioning: bool = True
    """Whether queries and keys also see the network's features of stride P, not only pixels (3.3)."""
    diffusion: bool = True
    """Whether the query of a corrupted patch starts as what the keys around the hole diffuse to there."""
    detail: bool = True
    """Whether queries and keys also see how much detail full resolution holds above the low-resolution grid."""
    search: bool = True
    """Whether the deployed model finds sources by PatchMatch over cells, guided by queries and keys
    (`rethined.search`). False: by attention over all pairs of patches, as in training (the paper, Eq. 1)."""
    top_k: int = 1
    """Known patches mixed into each corrupted one; 0 is a softmax over all of them (the paper, Eq. 1)."""
    overlap: bool = True
    """Whether patches are mixed through windows twice their side (False: hard tiles, the paper)."""
    band: int = 4
    """Side, in low-resolution pixels, of the cells that the network draws; all that is finer is copied. 1: it draws
    the whole low-resolution image, patches are mixed into that (Eq. 2), and a coherence layer follows (the paper)."""

    def __post_init__(self) -> None:
        if len(self.widths) != len(self.depths):
            raise ValueError(f"widths has {len(self.widths)} entries but depths has {len(self.depths)}")
        for name in ("widths", "depths", "branches", "key_dim"):
            least = min(value) if isinstance(value := getattr(self, name), tuple) else value
            if least < 1:
                raise ValueError(f"{name} is {value}, which is less than 1")
        if self.top_k < 0:
            raise ValueError(f"top_k is {self.top_k}, which is less than 0")
        if self.patch_size not in [4 * 2**i for i in range(len(self.widths))]:
            raise ValueError(f"patch_size {self.patch_size} is not one of the network's strides")
        if self.band not in (1, 4):
            raise ValueError(f"band {self.band} is neither 1 nor 4")
        if self.search and (self.band, self.patch_size) != (4, 8):
            raise ValueError(f"search needs band 4 and patch_size 8, not {self.band} and {self.patch_size}")
        if self.search and self.stride != 32:  # which programs that run the core rely on
            raise ValueError(f"search needs 4 widths, not {len(self.widths)}")

    @property
    def stride(self) -> int:
        """Both sides of the low-resolution image must be multiples of this."""
        return int(4 * 2 ** (len(self.widths) - 1))

    def to_json(self) -> str:
        return json.dumps({"version": VERSION, **dataclasses.asdict(self)})

    @classmethod
    def from_json(cls, text: str) -> ModelConfig:
        """Read back what `to_json` wrote.

        Raises:
            WeightsError: not such a text, or one of a newer version.
        """
        try:
            fields: dict[str, Any] = json.loads(text)
            version = fields.pop("version")
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise WeightsError(
                "the weights carry no readable rethined config; use a file exported by rethined"
            ) from error
        if version != VERSION:
            remedy = "upgrade rethined" if version > VERSION else "export the weights again with this rethined"
            raise WeightsError(
                f"the weights have config version {version}, this rethined reads version {VERSION}; {remedy}"
            )
        try:
            fields = {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}
            return cls(**fields)
        except (TypeError, ValueError) as error:
            raise WeightsError(f"the weights' config cannot be used: {error}") from error


DEFAULT = ModelConfig()
"""What measures best (docs/paper.md says where and why it leaves the paper)."""

PAPER = ModelConfig(
    branches=4,
    key_dim=64,
    diffusion=False,
    detail=False,
    search=False,
    top_k=0,
    overlap=False,
    band=1,
)
"""The paper's own choices wherever it states them: tiles, softmax mixing, split at the low-resolution Nyquist."""

VARIANTS = {"default": DEFAULT, "paper": PAPER}
