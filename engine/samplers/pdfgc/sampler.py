"""``PdfgcSampler``: factor-wise driving. Lips follow the voice; pose, eyes and expression their own sources.

Pose (6-d) and eyes (gaze, blinks: 6-d) are what they are in any source, so the shared controls mix them
in. The expression of a talking driver is tangled with speech: here it passes through the 30-d code
(:mod:`engine.samplers.pdfgc.expression`), so that the driver's words do not reach the lips. Factors
without a source of their own come from the shared models of human behaviour.

Wang et al., "Progressive Disentangled Representation Learning for Fine-Grained Controllable Talking
Head Synthesis", CVPR 2023.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from engine.errors import AssetError
from engine.samplers.brows import BrowState
from engine.samplers.controls import Controls
from engine.samplers.factors import LIPS, UPPER
from engine.samplers.lips import LipNet, load_lip_net
from engine.samplers.noise import Floats
from engine.samplers.pdfgc.expression import CODE_SIZE, READ, ExpressionNet
from engine.samplers.visemes import LIP_CHANNELS
from engine.samplers.voice import Moment, Sampled, VoiceSampler
from engine.types import EXPRESSION_NAMES, FACTORS, Cond
from engine.weights import load_weights

__all__ = ["PdfgcNetworks", "PdfgcSampler", "load_expression_net"]

LIPS_WEIGHTS, EXPRESSION_WEIGHTS = "pdfgc_lips", "pdfgc_expression"

_SHARE_RATE = 0.2
_SEAL = LIP_CHANNELS.index("lipsSealed")
_FOLLOW_LIPS, _FOLLOW_EXPRESSION = FACTORS.index("lips"), FACTORS.index("expression")
_PARTING = [
    k for k, n in enumerate(EXPRESSION_NAMES) if n.startswith(("mouthUpperUp", "mouthLowerDown", "jawOpen"))
]
_FIRST_BROWS = 5


@dataclass
class PdfgcNetworks:
    """``hidden`` [B, H] memory of the lips, ``codes`` [B, W, 30] the driver's last expressions, ``share``
    [B] how far its expression has been taken up."""

    hidden: Tensor
    codes: Tensor
    share: Floats
    brows: BrowState


class PdfgcSampler(VoiceSampler):
    """Features [B, T, F] to motion [B, T, 72], look-ahead 0.

    Args:
        features: names of the encoder's columns, those the lips network was trained on.
        space: the encoder's output space, for the pipeline's check.
        lips: the lips network; None loads the shipped one.
        expression: the expression factor; None loads the shipped one.

    Raises:
        AssetError: weights missing or trained on other columns.
        ConfigError: a needed column is missing.
    """

    takes_up = ("expression",)

    def __init__(
        self,
        features: tuple[str, ...],
        space: str,
        lips: LipNet | None = None,
        expression: ExpressionNet | None = None,
    ) -> None:
        super().__init__("pdfgc_sampler", features, space)
        self.lips = lips if lips is not None else load_lip_net(LIPS_WEIGHTS, features)
        self.expression = expression if expression is not None else load_expression_net()

    def fresh_networks(self, batch: int, cond: Cond) -> PdfgcNetworks:
        return PdfgcNetworks(
            hidden=self.lips.init_hidden(batch)[0],
            codes=self.expression.init_window(batch),
            share=np.zeros(batch),
            brows=self.brows.init_state(batch),
        )

    def sample(self, window: Tensor, moment: Moment, networks: PdfgcNetworks) -> Sampled:
        with torch.inference_mode():
            channels, hidden = self.lips(window[:, :1], networks.hidden[None])
            driver = torch.from_numpy(moment.controls.driver.astype(np.float32))
            driven = self.expression.express(driver, networks.codes).double().numpy()
        networks.hidden.copy_(hidden[0])
        lips = channels[:, 0].double().numpy()
        brows = self.brows.step(moment.seed, moment.frame, moment.cues, networks.brows)
        share = _approach(networks.share, moment.controls)[:, None]
        upper = np.concatenate([(1.0 - share) * brows, np.zeros((len(lips), len(UPPER) - _FIRST_BROWS))], 1)
        upper += share * driven[:, UPPER]
        mood = share * driven
        mood[:, UPPER] = 0.0
        mood[:, _PARTING] *= 1.0 - np.clip(lips[:, _SEAL, None], 0.0, 1.0)
        # Lips that follow a driver bring their own mood.
        mood[:, LIPS] *= 1.0 - moment.controls.follow[:, _FOLLOW_LIPS, None]
        return Sampled(lips=lips, upper=upper, mood=mood)


def _approach(share: Floats, controls: Controls) -> Floats:
    """Move ``share`` [B] in place towards the live ``follow.expression``: moods take a fifth of a second."""
    share += _SHARE_RATE * (controls.follow[:, _FOLLOW_EXPRESSION] - share)
    return share


def load_expression_net(name: str = EXPRESSION_WEIGHTS) -> ExpressionNet:
    """The shipped expression factor, frozen.

    Raises:
        AssetError: missing, damaged, or of other sizes than this code's.
    """
    tensors = load_weights(name)
    hidden, read = tensors["encoder.0.weight"].shape
    code = tensors["encoder.2.weight"].shape[0]
    if (read, code) != (len(READ), CODE_SIZE):
        raise AssetError(
            f"weights {name} read {read} columns into {code}, this code {len(READ)} into {CODE_SIZE}; "
            "rebuild them with visavis train pdfgc"
        )
    net = ExpressionNet(hidden)
    net.load_state_dict(tensors)
    return net.requires_grad_(False).eval()
