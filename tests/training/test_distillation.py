"""The loss is its formula."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from training import distillation_loss


def by_hand(
    student: torch.Tensor, teacher: torch.Tensor, labels: torch.Tensor, a: float, t: float, smoothing: float
) -> float:
    total = 0.0
    for z_s, z_t, label in zip(student, teacher, labels, strict=True):
        classes = len(z_s)
        log_q = (z_s.exp() / z_s.exp().sum()).log()
        target = torch.full((classes,), smoothing / classes)
        target[label] += 1 - smoothing
        cross_entropy = -(target * log_q).sum().item()
        p = (z_t / t).exp() / (z_t / t).exp().sum()
        q = (z_s / t).exp() / (z_s / t).exp().sum()
        total += (1 - a) * cross_entropy + a * t * t * (p * (p / q).log()).sum().item()
    return total / len(labels)


@given(seed=st.integers(0, 1000), a=st.floats(0, 1), t=st.floats(0.5, 8), smoothing=st.floats(0, 0.5))
def test_loss_equals_the_formula(seed: int, a: float, t: float, smoothing: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    student = torch.randn(6, 5, generator=generator, dtype=torch.float64)
    teacher = torch.randn(6, 5, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, 5, (6,), generator=generator)
    loss = distillation_loss(student, teacher, labels, weight=a, temperature=t, label_smoothing=smoothing)
    assert loss.item() == pytest.approx(by_hand(student, teacher, labels, a, t, smoothing), rel=1e-5)


def test_a_student_equal_to_its_teacher_has_nothing_to_learn_from_it() -> None:
    logits = torch.randn(4, 3, requires_grad=True)
    loss = distillation_loss(logits, logits.detach(), torch.zeros(4, dtype=torch.int64), weight=1.0)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-6)
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad, torch.zeros(4, 3), rtol=0, atol=1e-6)
