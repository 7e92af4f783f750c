"""Light of a direction: its projection for the shadow map, and how much sky each vertex sees."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engine.animators.mesh.geometry import unit_normals
from engine.synth.people.gpu import Gpu, GpuMesh
from engine.synth.people.model import HeadModel

__all__ = ["occlusion", "sun"]

Float = NDArray[np.float32]

_REACH, _DEPTH = 22.0, 45.0  # cm covered by the shadow map


def occlusion(gpu: Gpu, model: HeadModel, count: int = 72) -> Float:
    """[V] 0..1, how much of the sky each vertex of the mean head sees in ``count`` directions."""
    mean = model.basis.mean
    mesh = GpuMesh(
        gpu, {"in_pos": mean, "in_weight": np.zeros(len(mean), np.float32)}, {"all": model.basis.triangles}
    )
    normals = np.empty_like(mean)
    unit_normals(np.ascontiguousarray(mean), model.basis.triangles, np.eye(3, dtype=np.float32), normals)
    seen, total = np.zeros(len(mean)), np.full(len(mean), 1e-6)
    side = gpu.targets.shade.size[0]
    for k in range(count):
        y = 1.0 - 2.0 * (k + 0.5) / count
        angle = 2.39996 * k
        d = np.array([np.cos(angle) * np.sqrt(1 - y * y), y, np.sin(angle) * np.sqrt(1 - y * y)], np.float32)
        proj = sun(d, np.array([0.0, -2.0, 1.0], np.float32))
        gpu.set({"body": np.eye(4), "head": np.eye(4), "proj": proj}, ("shadow_solid",))
        gpu.targets.shadow.use()
        gpu.targets.shadow.clear(depth=1.0)
        mesh.draw("shadow_solid", "all")
        depth = np.frombuffer(gpu.targets.shade.read(), np.float32).reshape(side, side)
        clip = mean @ proj[:3, :3].T + proj[:3, 3]
        c, r = (np.clip(((clip[:, i] * 0.5 + 0.5) * side).astype(int), 0, side - 1) for i in (0, 1))
        cos = np.maximum(normals @ d, 0.0)
        seen += cos * (clip[:, 2] * 0.5 + 0.5 <= depth[r, c] + 0.35 / (2 * _DEPTH))
        total += cos
    mesh.release()
    return np.asarray(seen / total, np.float32)


def sun(direction: Float, middle: Float) -> Float:
    """[4, 4] camera space to the clip space of light from ``direction``, around ``middle``."""
    z = direction / np.linalg.norm(direction)
    x = np.cross([0.0, 1.0, 0.02], z)
    x /= np.linalg.norm(x)
    axes = np.stack([x, np.cross(z, x), -z]) / np.array([_REACH, _REACH, _DEPTH])[:, None]
    out = np.eye(4, dtype=np.float32)
    out[:3, :3], out[:3, 3] = axes, -axes @ middle
    return out
