"""``GohdSampler``: mel features to motion by GoHD's three motion networks, frame by frame.

Stage 2 says what eyes and brows do, stage 1 turns that and the voice into lips and upper face, the
diffusion moves the head. Gaze is left to the shared model: GoHD takes it from the user.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from engine.errors import ConfigError
from engine.samplers.gohd.eyes import Z_RATES_HZ, EyeState
from engine.samplers.gohd.lips import LOOKAHEAD, AudioState
from engine.samplers.gohd.networks import PROFILE_RATE, REFRACTORY_S, GohdNetworks, load_gohd
from engine.samplers.gohd.pose import PoseState, pose_audio
from engine.samplers.noise import Floats, Seeds, smooths, uniforms
from engine.samplers.voice import Moment, Sampled, VoiceSampler
from engine.types import MOTION, Cond

__all__ = ["GohdSampler", "GohdState", "z_of"]

_STREAM = 3_500
_LISTENING = 0.7
"""How lively a head is in silence."""
_Z_SCALE = 2.4  # smooth noise has a deviation of about 0.4; z has 1
_PROSODY = ("level", "loudness", "snr", "tilt", "voicing", "pitch", "vad", "voice")


@dataclass
class GohdState:
    """Memory of every part; ``rest`` [B, 21] the portrait's own eye feature, ``age_s`` and ``phase_s`` [B]
    of the last blink."""

    audio: AudioState
    eyes: EyeState
    pose: PoseState
    rest: Tensor
    age_s: Floats
    phase_s: Floats


def z_of(seed: Seeds, frame: int, dt: float) -> Floats:
    """The latent that wanders: float64 [B, 8], deviation about 1 (:data:`Z_RATES_HZ`)."""
    return _Z_SCALE * smooths(seed, _STREAM, frame * dt * np.array(Z_RATES_HZ)).T


class GohdSampler(VoiceSampler):
    """Features [B, T, F] of the ``mel`` encoder to motion [B, T, 72]; the lips hear one frame ahead.

    Args:
        features: names of the encoder's columns, those the networks were trained on.
        space: the encoder's output space, for the pipeline's check.
        networks: None loads the shipped ones.

    Raises:
        AssetError: weights missing or trained on other columns.
        ConfigError: a needed column is missing.
    """

    def __init__(self, features: tuple[str, ...], space: str, networks: GohdNetworks | None = None) -> None:
        super().__init__("gohd_sampler", features, space, LOOKAHEAD)
        self.networks = networks if networks is not None else load_gohd(features=features)
        missing = [name for name in _PROSODY if name not in features]
        if missing:
            raise ConfigError(f"the encoder lacks columns the sampler needs: {', '.join(missing)}")
        self._pose_prosody = [features.index(name) for name in _PROSODY]
        self._pose_bands = [k for k, name in enumerate(features) if name.startswith("mel.")]
        profile = self.networks.blink_profile.double().numpy()
        self._profile = profile
        self._profile_s = np.arange(len(profile)) / PROFILE_RATE

    def fresh_networks(self, batch: int, cond: Cond) -> GohdState:
        networks = self.networks
        rest = cond.rest[:, MOTION.expression].float() @ networks.feature_map.T
        return GohdState(
            audio=networks.lips.audio.init_state(batch),
            eyes=networks.eyes.init_state(batch),
            pose=networks.pose.init_state(batch),
            rest=rest.clamp(-4.0, 4.0),
            age_s=np.full(batch, 2.0),
            phase_s=np.zeros(batch),
        )

    def sample(self, window: Tensor, moment: Moment, networks: GohdState) -> Sampled:
        with torch.inference_mode():
            heard = self._hear(window[:, LOOKAHEAD:], networks.audio)
            eyes, blink = self._eyes(heard, moment, networks)
            logits, upper = self.networks.lips.heads(heard, eyes)
            lips = self.networks.lips.range(logits)[:, 0]
            upper = upper[:, 0] * self.networks.eye_gain
            voice = pose_audio(window[:, 0], self._pose_prosody, self._pose_bands)
            lively = _LISTENING + (1.0 - _LISTENING) * moment.cues.presence
            pose = self.networks.pose.step(voice, moment.seed, moment.frame, networks.pose, lively)
        return Sampled(
            lips=np.asarray(lips.double().numpy()),
            upper=np.asarray(upper.double().numpy()),
            blink=blink,
            pose=pose,
        )

    def _hear(self, x: Tensor, state: AudioState) -> Tensor:
        stage = self.networks.lips
        heard, after = stage.audio.continued(stage.normal(x), state)
        state.past.copy_(after.past)
        state.hidden.copy_(after.hidden)
        return heard

    def _eyes(self, heard: Tensor, moment: Moment, state: GohdState) -> tuple[Tensor, Floats]:
        """Eye feature [B, 1, 21] relative to rest, and the lids' closure [B]."""
        z = torch.from_numpy(z_of(moment.seed, moment.frame, self.dt).astype(np.float32))[:, None]
        eyes, memory, after = self.networks.eyes.continued(heard, z, state.rest, state.eyes)
        state.eyes.hidden.copy_(after.hidden)
        state.eyes.cell.copy_(after.cell)
        state.eyes.slow.copy_(after.slow)
        age = torch.from_numpy((state.age_s + self.dt).astype(np.float32))[:, None]
        chance = torch.sigmoid(self.networks.eyes.blink_logit(memory, age))[:, 0].double().numpy()
        return eyes, self._blink(chance, moment, state)

    def _blink(self, chance: Floats, moment: Moment, state: GohdState) -> Floats:
        """A blink begins with probability ``chance``; where between two frames, is chance too."""
        draw, phase = uniforms(moment.seed, _STREAM + 50, moment.frame, 2)
        state.age_s += self.dt
        start = (draw < chance) & (state.age_s > REFRACTORY_S)
        state.age_s[...] = np.where(start, 0.0, state.age_s)
        state.phase_s[...] = np.where(start, phase * self.dt, state.phase_s)
        return np.asarray(np.interp(state.age_s + state.phase_s, self._profile_s, self._profile, right=0.0))
