"""@slug@: the study's mathematics against what is known exactly."""

import torch

from ontogeny.ensemble import SGD


def test_decay_is_geometric():
    weights = torch.tensor([[2.0], [-1.0]])
    optimiser = SGD({"w": weights}, torch.tensor([0.1, 0.2]))
    for _ in range(5):
        optimiser.step({"w": 0.5 * weights})
    torch.testing.assert_close(weights, torch.tensor([[2 * 0.95**5], [-(0.9**5)]]))
