"""Convolutions whose channels a code scales and shifts, and a dictionary of exactly orthogonal directions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["Modulated", "ModulatedResidual", "OrthogonalDictionary"]


class Modulated(nn.Module):
    """A 3 x 3 convolution, then an affine change per channel from a code, then leaky ReLU.

    The scale starts at 1 and the shift at the convolution's own bias, whatever the code. There is no
    normalisation over the picture: its mean and contrast carry the light, which must survive.

    Args:
        inputs: channels in.
        outputs: channels out.
        code: size of the code.
        stride: of the convolution.
    """

    def __init__(self, inputs: int, outputs: int, code: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, stride, 1)
        self.affine = nn.Linear(code, 2 * outputs)
        nn.init.kaiming_normal_(self.conv.weight, a=0.1)
        nn.init.zeros_(self.conv.bias)  # type: ignore[arg-type]
        nn.init.normal_(self.affine.weight, std=0.02)
        nn.init.zeros_(self.affine.bias)

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        """``x`` [B, inputs, H, W] and ``code`` [B, code] to [B, outputs, H / stride, W / stride]."""
        scale, shift = self.affine(code)[:, :, None, None].chunk(2, 1)
        return F.leaky_relu(self.conv(x) * (1.0 + scale) + shift, 0.1)


class ModulatedResidual(nn.Module):
    """Two modulated convolutions beside a straight path; [B, C, H, W] stays [B, C, H, W]."""

    def __init__(self, channels: int, code: int) -> None:
        super().__init__()
        self.first = Modulated(channels, channels, code)
        self.second = nn.Conv2d(channels, channels, 3, 1, 1)
        nn.init.kaiming_normal_(self.second.weight, a=0.1)
        with torch.no_grad():
            self.second.weight *= 0.3

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        """``x`` [B, C, H, W], ``code`` [B, code]."""
        out: Tensor = x + self.second(self.first(x, code))
        return out


class OrthogonalDictionary(nn.Module):
    """M directions of R^Z, orthonormal whatever the parameters are (Latent Image Animator, section 3.2).

    The free parameter is any [Z, M] matrix; what is used is the Q of its QR decomposition with the signs
    that make R's diagonal positive, so that training never leaves the orthonormal frames.

    Args:
        directions: M, at most ``size``.
        size: Z.

    Raises:
        ValueError: more directions than dimensions.
    """

    def __init__(self, directions: int, size: int) -> None:
        super().__init__()
        if directions > size:
            raise ValueError(f"{directions} orthogonal directions do not fit into {size} dimensions")
        self.free = nn.Parameter(torch.randn(size, directions))
        self.fixed: Tensor | None = None

    def freeze(self) -> None:
        """Decompose once and for all: compilers know no QR."""
        self.fixed = self.directions().detach()

    def directions(self) -> Tensor:
        """[Z, M], columns orthonormal."""
        if self.fixed is not None:
            return self.fixed
        q, r = torch.linalg.qr(self.free.float())
        directions: Tensor = q * torch.sign(torch.diagonal(r))
        return directions

    def forward(self, magnitudes: Tensor) -> Tensor:
        """``magnitudes`` [B, M] to their sum of directions [B, Z]."""
        return magnitudes.float() @ self.directions().T
