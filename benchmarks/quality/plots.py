"""Pictures of what the numbers say: mouth curves, head traces, head spectra, one PNG each a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.quality.head import angles, spectrum
from benchmarks.quality.rows import AXES, Performed
from benchmarks.quality.subjects import Subject

__all__ = ["head_traces", "mouth_curves", "spectra", "write_all"]

_REAL, _MADE = "k", "C1"


def _panels(count: int, columns: int, height: float) -> tuple[Any, Any, list[Any]]:
    """(pyplot, figure, its panels); matplotlib is loaded only here, without a screen."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = (count + columns - 1) // columns
    figure, axes = pyplot.subplots(rows, columns, figsize=(6 * columns, height * rows), squeeze=False)
    return pyplot, figure, list(axes.flat)


def _save(pyplot: Any, figure: Any, path: Path) -> None:
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=80)
    pyplot.close(figure)


def mouth_curves(path: Path, subjects: list[Subject], performed: list[Performed]) -> None:
    """Real and generated mouth opening of every clip, the first ten seconds."""
    pyplot, figure, axes = _panels(len(subjects), 3, 1.9)
    for axis, subject, made in zip(axes, subjects, performed, strict=False):
        axis.plot(np.arange(len(subject.opening)) / 25, subject.opening, _REAL, lw=0.9, label="real")
        axis.plot(np.arange(len(made.opening)) / 25, made.opening, _MADE, lw=0.9, label="generated")
        axis.set_title(subject.name, fontsize=7)
        axis.set_xlim(0, 10)
        axis.tick_params(labelsize=6)
    axes[0].legend(fontsize=6)
    _save(pyplot, figure, path)


def head_traces(path: Path, subjects: list[Subject], performed: list[Performed]) -> None:
    """Pitch, yaw, roll of every free talker (of all where there is none) beside the generated head."""
    chosen = [k for k, s in enumerate(subjects) if s.free_talk] or list(range(len(subjects)))
    pyplot, figure, axes = _panels(3 * len(chosen), 3, 1.7)
    for row, k in enumerate(chosen):
        real, made = angles(subjects[k].motion), [angles(m) for m in performed[k].motions[:3]]
        for column, name in enumerate(AXES):
            axis = axes[3 * row + column]
            for curve in made:
                axis.plot(np.arange(len(curve)) / 25, curve[:, column], _MADE, lw=0.7, alpha=0.7)
            axis.plot(np.arange(len(real)) / 25, real[:, column], _REAL, lw=1.0)
            axis.set_title(f"{subjects[k].name} {name}, deg", fontsize=7)
            axis.set_ylim(-15, 15)
            axis.tick_params(labelsize=6)
    _save(pyplot, figure, path)


def spectra(path: Path, subjects: list[Subject], recipes: dict[str, list[Performed]]) -> None:
    """Power spectra of the head, free talkers and their generated doubles."""
    chosen = [k for k, s in enumerate(subjects) if s.free_talk] or list(range(len(subjects)))
    pyplot, figure, axes = _panels(3, 3, 4.0)
    hertz, real = spectrum([angles(subjects[k].motion) for k in chosen])
    for column, name in enumerate(AXES):
        axes[column].semilogy(hertz[1:26], real[1:26, column] + 1e-6, _REAL, lw=2, label="real")
        axes[column].set_title(f"{name}, deg2 / Hz")
        axes[column].set_xlabel("Hz")
    for recipe, performed in recipes.items():
        _, power = spectrum([angles(m) for k in chosen for m in performed[k].motions])
        for column in range(3):
            axes[column].semilogy(hertz[1:26], power[1:26, column] + 1e-6, lw=1, label=recipe)
    axes[0].legend(fontsize=7)
    _save(pyplot, figure, path)


def write_all(folder: Path, subjects: list[Subject], recipes: dict[str, list[Performed]]) -> None:
    """``quality_mouth_NAME.png`` and ``quality_head_NAME.png`` of every recipe, ``quality_spectrum.png``."""
    for name, performed in recipes.items():
        safe = "".join(c if c.isalnum() else "_" for c in name)
        mouth_curves(folder / f"quality_mouth_{safe}.png", subjects, performed)
        head_traces(folder / f"quality_head_{safe}.png", subjects, performed)
    spectra(folder / "quality_spectrum.png", subjects, recipes)
