"""OSM-Net as a streaming sampler: a space of clip-level head motions, and lips by regression.

J. Liu et al., "OSM-Net: One-to-Many One-shot Talking Head Generation with Spontaneous Head Motions".
"""

from __future__ import annotations

from engine.samplers.osm.sampler import OsmSampler

__all__ = ["OsmSampler"]
