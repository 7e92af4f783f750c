"""Flow blocks: round trips, log-determinants against autograd, per-class norms, priors, projection."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from engine.layers.flow import (
    AffineCoupling,
    Flow,
    FlowConfig,
    InvertibleLinear,
    MixturePrior,
    MultiActNorm,
    on_manifold,
)

SIZE, CLASSES, WIDTH, TOKENS, ROWS = 7, 3, 16, 5, 9


def _shaken(module: nn.Module, seed: int = 0) -> nn.Module:
    """Weights away from their neutral start, as after training."""
    noise = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.15 * torch.randn(parameter.shape, generator=noise))
    return module


@pytest.fixture
def flow() -> Flow:
    torch.manual_seed(1)
    made = _shaken(Flow(FlowConfig(SIZE, CLASSES, steps=4, width=WIDTH)))
    assert isinstance(made, Flow)
    return made


def _inputs(seed: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    noise = torch.Generator().manual_seed(seed)
    x = 2.0 * torch.randn(ROWS, SIZE, generator=noise)
    weights = torch.softmax(2.0 * torch.randn(ROWS, CLASSES, generator=noise), dim=-1)
    return x, weights, torch.randn(ROWS, TOKENS, WIDTH, generator=noise)


def test_data_comes_back_within_1e_4(flow: Flow) -> None:
    x, weights, tokens = _inputs()
    z, _ = flow(x, weights, tokens)
    assert (z - x).abs().max() > 0.5
    assert (flow.inverse(z, weights, tokens) - x).abs().max() <= 1e-4
    flow.freeze()
    assert (flow.inverse(z, weights, tokens) - x).abs().max() <= 1e-4
    again, _ = flow(flow.inverse(x, weights, tokens), weights, tokens)
    assert (again - x).abs().max() <= 1e-4


def test_log_determinant_is_that_of_the_jacobian(flow: Flow) -> None:
    x, weights, tokens = (part.double() for part in _inputs())
    flow = flow.double()
    torch.set_default_dtype(torch.float64)
    try:
        _, given = flow(x, weights, tokens)
        for row in range(ROWS):
            w, c = weights[row : row + 1], tokens[row : row + 1]

            def to_code(v: Tensor, w: Tensor = w, c: Tensor = c) -> Tensor:
                code: Tensor = flow(v[None], w, c)[0][0]
                return code

            jacobian = torch.func.jacrev(to_code)(x[row])
            assert float(torch.linalg.slogdet(jacobian.detach())[1]) == pytest.approx(
                float(given[row].detach()), abs=1e-8
            )
    finally:
        torch.set_default_dtype(torch.float32)


def test_linear_map_inverts_and_knows_its_determinant() -> None:
    torch.manual_seed(3)
    layer = _shaken(InvertibleLinear(SIZE))
    assert isinstance(layer, InvertibleLinear)
    x = torch.randn(ROWS, SIZE)
    h, log_det = layer(x)
    assert torch.allclose(layer.inverse(h), x, atol=1e-4)
    assert float(torch.linalg.slogdet(layer.weight().detach())[1]) == pytest.approx(
        float(log_det.detach()), abs=1e-4
    )


def test_coupling_starts_as_the_identity_and_keeps_the_first_half() -> None:
    torch.manual_seed(4)
    layer = AffineCoupling(SIZE, WIDTH, 4)
    x, _, tokens = _inputs()
    h, log_det = layer(x, tokens)
    assert torch.equal(h, x)
    assert torch.equal(log_det, torch.zeros(ROWS))
    _shaken(layer)
    h, _ = layer(x, tokens)
    assert torch.equal(h[:, : SIZE // 2], x[:, : SIZE // 2])
    other, _ = layer(x, tokens + 0.5)
    assert (h - other).abs().max() > 1e-3


def test_each_class_has_its_own_norm() -> None:
    noise = torch.Generator().manual_seed(5)
    labels = torch.arange(600) % CLASSES
    weights = nn.functional.one_hot(labels, CLASSES).float()
    mean = torch.tensor([[0.0], [3.0], [-2.0]]).expand(-1, SIZE)
    spread = torch.tensor([[1.0], [0.2], [2.0]])
    x = mean[labels] + spread[labels] * torch.randn(600, SIZE, generator=noise)
    norm = MultiActNorm(SIZE, CLASSES)
    norm.fit(x, weights)
    h, log_det = norm(x, weights)
    for k in range(CLASSES):
        assert h[labels == k].mean(0).abs().max() < 0.15
        assert (h[labels == k].std(0) - 1).abs().max() < 0.25
    assert log_det[1] > log_det[0] > log_det[2]
    assert torch.allclose(norm.inverse(h, weights), x, atol=1e-5)


def test_a_label_between_two_classes_has_the_norm_between_theirs() -> None:
    norm = MultiActNorm(2, 2)
    with torch.no_grad():
        norm.mean.copy_(torch.tensor([[0.0, 0.0], [4.0, -2.0]]))
    half = norm.inverse(torch.zeros(1, 2), torch.tensor([[0.5, 0.5]]))
    assert torch.allclose(half, torch.tensor([[2.0, -1.0]]))


def _student_log_density(x: float, v: float) -> float:
    constant = math.gamma((v + 1) / 2) / (math.sqrt(v * math.pi) * math.gamma(v / 2))
    return math.log(constant) - (v + 1) / 2 * math.log(1 + x * x / v)


@pytest.mark.parametrize("freedom", [4.0, 50.0, math.inf])
def test_prior_is_the_textbook_density(freedom: float) -> None:
    torch.manual_seed(6)
    prior = MixturePrior(1, 2, freedom)
    weights = torch.tensor([[1.0, 0.0]])
    grid = torch.linspace(-60, 60, 60001)[:, None] + prior.means[0]
    density = prior.log_density(grid, weights.expand(len(grid), -1)).exp()
    assert float(torch.trapezoid(density, grid[:, 0])) == pytest.approx(1.0, abs=2e-3)
    if not math.isinf(freedom):
        expected = _student_log_density(1.5, freedom)
        at = prior.log_density(prior.means[:1] + 1.5, weights)
        assert float(at) == pytest.approx(expected, abs=1e-4)


def test_a_t_sample_has_fatter_tails_than_its_normals() -> None:
    torch.manual_seed(7)
    prior = MixturePrior(SIZE, CLASSES, 5.0)
    weights = torch.eye(CLASSES)[torch.zeros(20000, dtype=torch.long)]
    normal = torch.randn(20000, SIZE)
    chi = torch.randn(20000, 5).square().sum(1)
    z = prior.sample(normal, chi, weights) - prior.means[0]
    assert z.var() == pytest.approx(5.0 / 3.0, rel=0.1)
    assert z.mean().abs() < 0.05


def test_projection_lands_between_the_nearest_codes() -> None:
    torch.manual_seed(8)
    plane = torch.zeros(ROWS, 40, SIZE)
    plane[..., :2] = torch.randn(ROWS, 40, 2)
    z = 0.3 * torch.randn(ROWS, SIZE)
    projected = on_manifold(z, plane, neighbours=6)
    assert projected[:, 2:].abs().max() < 1e-6  # on the codes' plane
    nearest = (plane - z[:, None]).norm(dim=-1).amin(1)
    assert ((projected - z).norm(dim=-1) <= nearest + 1e-5).all()


def test_a_stored_code_projects_to_itself() -> None:
    torch.manual_seed(9)
    codes = torch.randn(1, 30, SIZE)
    assert torch.allclose(on_manifold(codes[:, 4], codes, 5), codes[:, 4], atol=3e-2)
