"""GoHD's motion half (Zhou et al., 2024): frame-wise lips, recurrent eyes and brows, diffused head poses."""

from engine.samplers.gohd.networks import GohdNetworks, load_gohd
from engine.samplers.gohd.sampler import GohdSampler, GohdState

__all__ = ["GohdNetworks", "GohdSampler", "GohdState", "load_gohd"]
