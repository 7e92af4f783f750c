"""One portrait to one :class:`MeshIdentity`."""

from __future__ import annotations

from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.animators.mesh.grid import CELL, NODES, head_weight, prepare_grid, smoothstep
from engine.animators.mesh.identity import MeshIdentity
from engine.animators.mesh.layers import Arrays, Layer, SourceGeometry
from engine.animators.mesh.lids import lid_paint, lip_line
from engine.animators.mesh.semantics import ABSOLUTE, rest_motion
from engine.animators.mesh.skin import (
    LID_ROWS,
    blink_completion,
    camera_normals,
    carrying_skin,
    face_alpha,
    lip_seal,
    skin_graph,
    skin_regions,
    source_positions,
    visible_skin,
)
from engine.face.basis import FaceBasis, load_basis
from engine.face.fitter import NECK_PIVOT, FaceFit
from engine.face.inpaint import fill_background
from engine.face.landmarks import Landmarks
from engine.face.matte import person_matte
from engine.types import EXPRESSION_NAMES

__all__ = ["CropPortrait", "prepare_identity"]

Float = NDArray[np.float32]

_BLINK_UNITS = (EXPRESSION_NAMES.index("eyeBlinkRight"), EXPRESSION_NAMES.index("eyeBlinkLeft"))


class CropPortrait(Protocol):
    """What the animator needs of an analysed portrait."""

    @property
    def crop(self) -> NDArray[np.uint8]:
        """uint8 [512, 512, 3]"""
        ...

    @property
    def crop_alpha(self) -> NDArray[np.uint8] | None:
        """uint8 [512, 512] where the picture is transparent, else None"""
        ...

    @property
    def landmarks(self) -> Landmarks:
        """in crop px"""
        ...

    @property
    def fit(self) -> FaceFit: ...


def source_geometry(portrait: CropPortrait, basis: FaceBasis) -> SourceGeometry:
    """The portrait as the layers see it."""
    fit, crop = portrait.fit, np.ascontiguousarray(portrait.crop)
    points = np.ascontiguousarray(portrait.landmarks.points, np.float32)
    vertices = fit.vertices()
    projected = fit.project(vertices)
    normals = camera_normals(basis, vertices, fit)
    nose_depth = float(np.median(projected[basis.part("face"), 2]))
    return SourceGeometry(
        crop=crop,
        matte=np.asarray(person_matte(crop, points, portrait.crop_alpha), np.float32),
        landmarks=points,
        fit=fit,
        basis=basis,
        neutral=fit.neutral().astype(np.float32),
        expression=np.asarray(fit.expression, np.float32),
        vertices=vertices.astype(np.float32),
        projected=projected.astype(np.float32),
        normals=normals,
        visible=visible_skin(basis, projected, normals, crop.shape[0]),
        pixels_per_cm=float(fit.focal) / nose_depth,
    )


def premultiplied(crop: NDArray[np.uint8], matte: Float, background: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The person alone [H, W, 4]: crop - (1 - matte) background, so that laid over the background
    it gives the crop back.

    Where the guessed background would leave the person an implausible colour (dark hair before a
    window), the matte is raised until it does not.
    """
    photo, behind = crop.astype(np.float32), background.astype(np.float32)
    # alpha at which (photo - (1 - alpha) behind) / alpha is 0.6 photo, or halfway to white.
    darker = (behind - photo) / np.maximum(behind - 0.6 * photo, 1.0)
    lighter = (photo - behind) / np.maximum(0.5 * photo + 127.5 - behind, 1.0)
    least = np.clip(np.maximum(darker, lighter), 0.0, 1.0).max(-1)
    alpha = np.where(matte > 0.004, np.maximum(matte, least), 0.0)
    changed = (np.abs(crop.astype(np.int16) - background).max(-1) > 2) & (alpha == 0.0)
    alpha = np.ceil(np.where(changed, np.maximum(least, 0.004), alpha) * 255.0) / 255.0
    person = crop - (1.0 - alpha[..., None]) * background
    rgba = np.concatenate([person, 255.0 * alpha[..., None]], -1)
    return np.asarray(np.clip(np.round(rgba), 0, 255), np.uint8)


def keep_still(crop: NDArray[np.uint8], background: NDArray[np.uint8], weight: Float) -> None:
    """The photo itself behind what hardly moves (``weight`` [NODES**2], share in the head's motion),
    in ``background``, in place: shoulders uncover next to nothing, and there a flaw of the matte would
    show as a hole in them."""
    nodes = smoothstep(0.12, 0.4, weight).reshape(NODES, NODES)
    y, x = np.mgrid[: crop.shape[0], : crop.shape[1]].astype(np.float32) / CELL
    share = np.asarray(cv2.remap(nodes, x, y, cv2.INTER_LINEAR), np.float32)[..., None]
    background[:] = np.clip(crop + share * (background.astype(np.float32) - crop) + 0.5, 0, 255)


def keep_rim(crop: NDArray[np.uint8], matte: Float, background: NDArray[np.uint8]) -> None:
    """The outermost rows of a photo are often a frame: they stay where they are, in place.

    Changes ``matte`` to 0 and ``background`` to the photo there, wherever the person is not.
    """
    rim = np.ones(matte.shape, bool)
    rim[3:-3, 3:-3] = False
    rim &= matte < 0.5
    matte[rim] = 0.0
    background[rim] = crop[rim]


def prepare_identity(portrait: CropPortrait, layers: dict[str, type[Layer]]) -> MeshIdentity:
    """Everything the animator needs of ``portrait``; ``layers`` are prepared under their names."""
    basis = load_basis()
    source = source_geometry(portrait, basis)
    fit = source.fit
    regions = skin_regions(basis, source.vertices)
    graph = skin_graph(basis, source.vertices)
    alpha = face_alpha(basis, regions, source.neutral, source.normals, graph)
    face = basis.triangles_of("face")
    camera = np.concatenate([fit.rotation, fit.translation[:, None]], 1).astype(np.float32)
    carried = carrying_skin(basis, regions, source.visible, source.normals)
    grid = prepare_grid(source, camera, carried, alpha)
    background = np.array(fill_background(source.crop, source.matte), np.uint8)
    keep_still(source.crop, background, grid.weight)
    matte = source.matte.copy()
    keep_rim(source.crop, matte, background)
    lid, lash = lid_paint(source)
    return MeshIdentity(
        crop=source.crop,
        person=premultiplied(source.crop, matte, background),
        background=background,
        rest=rest_motion(source.expression),
        expression=source.expression,
        neutral=source.neutral,
        projected=source.projected,
        camera=camera,
        intrinsics=np.array([fit.focal, fit.centre[0], fit.centre[1]], np.float32),
        pivot=np.asarray(fit.to_camera(NECK_PIVOT), np.float32),
        scale=np.array([source.pixels_per_cm, fit.interocular_cm], np.float32),
        weight=head_weight(source.neutral),
        triangles=np.ascontiguousarray(face[(alpha[face] > 0.0).any(1)]),
        source=source_positions(basis, regions, source.projected, source.visible, graph),
        alpha=alpha,
        landmarks=source.landmarks,
        seal=lip_seal(basis, _lips_closed(source)),
        blink=np.stack(
            [
                blink_completion(basis, source.neutral, source.expression, unit, rows)
                for unit, rows in zip(_BLINK_UNITS, LID_ROWS, strict=True)
            ]
        ),
        lid=lid,
        lash=lash,
        lip_line=lip_line(source),
        node_points=grid.points,
        node_weight=grid.weight,
        node_hold=grid.hold,
        node_unit_offset=grid.units.offset,
        node_unit_vertex=grid.units.vertex,
        node_unit_value=grid.units.value,
        layers={name: _arrays(layer.prepare(source)) for name, layer in layers.items()},
    )


def _lips_closed(source: SourceGeometry) -> Float:
    """This person with mouth and jaw at neutral, the rest as in the portrait, [V, 3]."""
    expression = np.where(ABSOLUTE, 0.0, source.expression).astype(np.float32)
    return (source.neutral + np.tensordot(expression, source.basis.expression, 1)).astype(np.float32)


def _arrays(content: Arrays) -> Arrays:
    return {name: np.ascontiguousarray(value) for name, value in content.items()}
