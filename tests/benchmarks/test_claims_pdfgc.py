"""The measures of PD-FGC's claims, on faces whose answer is known."""

from __future__ import annotations

import numpy as np
import torch

from benchmarks.quality.claims_pdfgc import authored_error, seen_factors
from engine.samplers.pdfgc.expression import READ, ExpressionNet
from engine.types import MOTION


class Perfect(ExpressionNet):
    """Hands the motion through."""

    def express(self, motion: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
        out = motion.new_zeros(len(motion), MOTION.expression.stop)
        out[:, READ] = motion[:, READ]
        return out


class Still(ExpressionNet):
    """Expresses nothing."""

    def express(self, motion: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
        return motion.new_zeros(len(motion), MOTION.expression.stop)


def test_known_expressions_are_found_by_a_perfect_factor_and_missed_by_a_still_one() -> None:
    talker = [np.full((80, MOTION.size), 0.1, np.float32)]
    assert authored_error(Perfect(hidden=4), talker) < 1e-6
    assert authored_error(Still(hidden=4), talker) == 1.0


def test_each_measured_factor_sees_its_own_motion() -> None:
    still = np.zeros((2, MOTION.size), np.float32)

    def change(*names: str) -> dict[str, float]:
        moved = still.copy()
        for name in names:
            moved[1, MOTION.index(name)] = 0.5
        return {k: float(np.abs(np.diff(v, axis=0)).max()) for k, v in seen_factors(moved).items()}

    jaw, turn = change("jawOpen"), change("ry")
    assert jaw["lips"] > 0.05
    assert jaw["pose"] == 0.0
    assert (turn["lips"], turn["eyes"], turn["expression"]) == (0.0, 0.0, 0.0)
    blink, brows = change("eyeBlinkLeft", "eyeBlinkRight"), change("browInnerUp", "browOuterUpLeft")
    assert blink["eyes"] > 0.03 > blink["lips"]
    assert brows["expression"] > 0.03 > brows["eyes"]
