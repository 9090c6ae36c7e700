"""Accuracy and loss of a model on a split."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from training.batching import batches
from training.data import Split
from training.modules import device_of, preserved_modes


@dataclass(frozen=True)
class Metrics:
    """How good a model is on one split.

    Args:
        accuracy: top-1, in percent points, 0..100.
        loss: mean cross entropy, in nats; not finite if the model's outputs are not.
    """

    accuracy: float
    loss: float


def evaluate(model: nn.Module, split: Split, batch_size: int = 256) -> Metrics:
    """Metrics of a classifier (images [B, C, H, W] -> logits [B, classes]) in evaluation mode.

    Runs on the model's device and leaves the model as it was, modes included.
    """
    device = device_of(model)
    correct = torch.zeros((), dtype=torch.int64, device=device)
    loss = torch.zeros((), dtype=torch.float64, device=device)
    with preserved_modes(model), torch.no_grad():
        model.eval()
        for images, labels in batches(split, batch_size):
            logits = model(images.to(device)).float()
            labels = labels.to(device)
            correct += (logits.argmax(dim=1) == labels).sum()
            loss += F.cross_entropy(logits, labels, reduction="sum")
    return Metrics(accuracy=100.0 * correct.item() / len(split), loss=loss.item() / len(split))
