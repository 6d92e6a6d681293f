# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Adam on one flat vector.

Citation: Kingma and Ba 2015, arXiv:1412.6980, algorithm 1.

    m = b1 m + (1 - b1) g,    v = b2 v + (1 - b2) g^2                                        (1)
    x = x - lr (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)                               (2)

All parameters of our networks lie in one vector, so a step is one call of torch's fused kernel.
``torch.optim.Adam`` gives the same numbers (a test compares the two) with Python around it that
takes longer than the kernel where networks are small.

The moments of a weight that gets no gradient any more, as that of a dead unit, shrink until they
are denormal numbers and stay there: 0.9 times the least of these is rounded to itself. A processor
takes ten times as long over them, so for the time of a step they count as zero.
"""

import torch


class Adam:
    """Adam for one vector and its gradient vector, both updated in place."""

    def __init__(self, vector: torch.Tensor, learning_rate: float,
                 betas: tuple[float, float] = (0.9, 0.999), epsilon: float = 1e-8) -> None:
        """
        Create the moments.

        :param vector: x, any shape; changed by :meth:`step`.
        :param learning_rate: lr, per step.
        """
        self.vector = vector
        self.learning_rate = learning_rate
        self.betas = betas
        self.epsilon = epsilon
        self.mean = torch.zeros_like(vector)
        self.square = torch.zeros_like(vector)
        self._steps = torch.zeros((), device=vector.device)

    @property
    def steps(self) -> int:
        """Return how many steps have been applied."""
        return int(self._steps.item())

    def step(self, gradient: torch.Tensor) -> None:
        """Apply one step, eq. (1) and (2)."""
        torch.set_flush_denormal(True)
        self._steps += 1.0
        torch._fused_adam_(
            [self.vector], [gradient], [self.mean], [self.square], [], [self._steps],
            lr=self.learning_rate, beta1=self.betas[0], beta2=self.betas[1], weight_decay=0.0,
            eps=self.epsilon, amsgrad=False, maximize=False)
        torch.set_flush_denormal(False)

    def state_dict(self) -> dict[str, torch.Tensor | int]:
        """Return copies of the moments and the step count, wherever the vector is."""
        return {'mean': self.mean.to('cpu', copy=True),
                'square': self.square.to('cpu', copy=True), 'steps': self.steps}

    def load_state_dict(self, state: dict) -> None:
        """Take over what :meth:`state_dict` returned."""
        self.mean.copy_(state['mean'])
        self.square.copy_(state['square'])
        self._steps.fill_(float(state['steps']))
