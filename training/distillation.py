"""Learning from a teacher's soft outputs beside the labels."""

import torch.nn.functional as F
from torch import Tensor


def distillation_loss(
    student: Tensor,
    teacher: Tensor,
    labels: Tensor,
    *,
    weight: float = 0.5,
    temperature: float = 2.0,
    label_smoothing: float = 0.1,
) -> Tensor:
    """(1 - a) CE(y, z_s) + a T^2 KL(softmax(z_t / T) || softmax(z_s / T)), a scalar (Hinton et al., 1503.02531).

    Args:
        student: logits z_s [B, classes].
        teacher: logits z_t [B, classes]; no gradient should flow into them.
        labels: [B].
        weight: a.
        temperature: T.
        label_smoothing: of the cross entropy.
    """
    hard = F.cross_entropy(student, labels, label_smoothing=label_smoothing)
    soft = F.kl_div(
        F.log_softmax(student / temperature, dim=1),
        F.log_softmax(teacher / temperature, dim=1),
        reduction="batchmean",
        log_target=True,
    )
    return (1 - weight) * hard + weight * temperature**2 * soft
