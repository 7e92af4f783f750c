"""``MixedSampler``: lips from one family, head from another, under one set of controls.

Each factor (:data:`~engine.types.FACTORS`) is taken from the family named for it. The families say
what they would do; body, silence, controls and seams are joined once, so that the eyes compensate
the head that is really shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from engine.errors import ConfigError
from engine.samplers.voice import Float32s, Moment, Sampled, VoiceSampler
from engine.types import FACTORS, Cond

__all__ = ["MixedNetworks", "MixedSampler"]


@dataclass
class MixedNetworks:
    """The family state behind each factor; a family that gives several is in several places, once."""

    lips: Any
    pose: Any
    eyes: Any
    expression: Any


class MixedSampler(VoiceSampler):
    """Features of one or several encoders side by side to motion.

    Args:
        families: for each of ``lips``, ``pose``, ``eyes``, ``expression`` the sampler that gives it.
        starts: for each factor, the column at which its family's features start.
        features: names of all columns, the families' after one another.
        space: the encoder's output space.

    Raises:
        ConfigError: a factor is missing.
    """

    def __init__(
        self,
        families: Mapping[str, VoiceSampler],
        starts: Mapping[str, int],
        features: tuple[str, ...],
        space: str,
    ) -> None:
        if set(families) != set(FACTORS) or set(starts) != set(FACTORS):
            raise ConfigError(f"a mixed sampler needs one family for each of {', '.join(FACTORS)}")
        distinct = {id(f): f for f in families.values()}.values()
        lookahead = max(f.spec.lookahead_frames for f in distinct)
        super().__init__("+".join(f.spec.name for f in distinct), features, space, lookahead)
        self.families = dict(families)
        self.emotional = families["expression"].emotional
        self.styled = any(f.styled for f in distinct)
        self.acting = families["pose"].acting
        self._slices = {
            factor: slice(starts[factor], starts[factor] + len(family.features))
            for factor, family in families.items()
        }

    def style_code(self, motion: Float32s, features: Float32s) -> Float32s:
        """The code of the first family that takes one: styles of two families cannot be mixed."""
        for factor, family in self.families.items():
            if family.styled:
                return family.style_code(motion, features[:, self._slices[factor]])
        return super().style_code(motion, features)

    def fresh_networks(self, batch: int, cond: Cond) -> MixedNetworks:
        made: dict[int, Any] = {}
        for family in self.families.values():
            if id(family) not in made:
                made[id(family)] = family.fresh_networks(batch, cond)
        return MixedNetworks(**{factor: made[id(family)] for factor, family in self.families.items()})

    def sample(self, window: Tensor, moment: Moment, networks: MixedNetworks) -> Sampled:
        said: dict[int, Sampled] = {}
        for factor, family in self.families.items():
            if id(family) not in said:
                own = window[:, : 1 + family.spec.lookahead_frames, self._slices[factor]]
                said[id(family)] = family.sample(own.contiguous(), moment, getattr(networks, factor))
        lips, pose, eyes, expression = (said[id(self.families[factor])] for factor in FACTORS)
        return Sampled(
            lips=lips.lips,
            upper=expression.upper,
            blink=eyes.blink,
            gaze=eyes.gaze,
            pose=pose.pose,
            mood=expression.mood,
        )
