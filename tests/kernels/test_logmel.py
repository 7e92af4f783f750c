"""The log-mel kernel: both bodies agree, and neither the length nor the cut of a stream matters."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kernels.logmel import MelSpec, log_mel, mel_filters

SPECS = [MelSpec(), MelSpec(window=640, fft=1024, bands=80), MelSpec(bands=40, low_hz=80.0, floor=1e-9)]


def _noise(batch: int, count: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(batch, count, generator=torch.Generator().manual_seed(seed)) * 0.1


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("hops", [0, 1, 2, 3, 7, 31])
@pytest.mark.parametrize("batch", [1, 3])
def test_bodies_agree(spec: MelSpec, hops: int, batch: int) -> None:
    samples = _noise(batch, spec.context + hops * spec.hop)
    expected, got = log_mel(samples, spec, impl="ref"), log_mel(samples, spec, impl="cpu")
    assert got.shape == (batch, hops, spec.bands)
    torch.testing.assert_close(got, expected, atol=2e-4, rtol=1e-4)


def test_strided_input_gives_the_same() -> None:
    spec = MelSpec()
    wide = _noise(2, 2 * (spec.context + 5 * spec.hop))
    view = wide[:, ::2]
    torch.testing.assert_close(log_mel(view, spec), log_mel(view.contiguous(), spec), atol=0, rtol=0)


def test_a_stream_cut_anywhere_is_bit_identical() -> None:
    spec = MelSpec()
    samples = _noise(2, spec.context + 24 * spec.hop)
    whole = log_mel(samples, spec)
    for hops in (1, 2, 3, 4, 8):
        parts = [
            log_mel(samples[:, k * spec.hop : (k + hops) * spec.hop + spec.context], spec)
            for k in range(0, 24, hops)
        ]
        assert torch.equal(torch.cat(parts, dim=1), whole)


def test_levels_are_physical() -> None:
    """White noise of variance v reads ln v in every band, a tone peaks in its own, silence is the floor."""
    spec = MelSpec()
    noise = log_mel(_noise(1, spec.context + 400 * spec.hop), spec).exp().mean(1)
    torch.testing.assert_close(noise, torch.full_like(noise, 0.01), atol=0.002, rtol=0)
    count = spec.context + 4 * spec.hop
    tone = torch.sin(2 * torch.pi * 1000 * torch.arange(count) / spec.sample_rate)[None]
    peak = int(log_mel(tone, spec)[0, 1].argmax())
    centres = np.arange(spec.fft // 2 + 1) @ mel_filters(spec) * spec.sample_rate / spec.fft
    assert abs(centres[peak] - 1000) < 60
    silence = log_mel(torch.zeros(1, count), spec)
    torch.testing.assert_close(
        silence, torch.full_like(silence, float(np.log(spec.floor))), atol=1e-3, rtol=0
    )


def test_filters_have_unit_sum_even_where_bands_are_narrow() -> None:
    for spec in (*SPECS, MelSpec(bands=128)):
        filters = mel_filters(spec)
        assert filters.min() >= 0
        np.testing.assert_allclose(filters.sum(0), 1.0, rtol=1e-5)


def test_wrong_input_is_refused_with_the_remedy() -> None:
    spec = MelSpec()
    with pytest.raises(ValueError, match="whole hops"):
        log_mel(torch.zeros(1, spec.context + 7), spec)
    with pytest.raises(ValueError, match="context"):
        log_mel(torch.zeros(1, 100), spec)
    with pytest.raises(ValueError, match="float32"):
        log_mel(torch.zeros(1, spec.context, dtype=torch.float64), spec)
