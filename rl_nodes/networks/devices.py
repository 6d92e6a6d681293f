# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Where networks compute while they learn."""

from rl_nodes.core.errors import TrainingError
import torch


def device_called(name: str) -> torch.device:
    """
    Return a device of this machine.

    :param name: ``cpu``; ``auto`` for an accelerator where there is one, otherwise the processor;
        or a kind of accelerator as torch calls it, ``cuda`` or ``cuda:1``.
    :raises TrainingError: no such device is here.
    """
    if name == 'cpu':
        return torch.device(name)
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() \
        else None
    if name == 'auto':
        return accelerator or torch.device('cpu')
    kind, _, number = name.partition(':')
    count = torch.accelerator.device_count() if accelerator and accelerator.type == kind else 0
    if not count or not (number or '0').isdigit() or int(number or 0) >= count:
        found = [f'{accelerator.type}:{i}' for i in range(torch.accelerator.device_count())] \
            if accelerator else []
        raise TrainingError(f'learner.device = {name}: torch {torch.__version__} finds '
                            f'{", ".join(["cpu", *found])} on this machine; take one of these, or '
                            'auto for an accelerator where there is one')
    return torch.device(name)
