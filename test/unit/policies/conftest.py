# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Files as other trainers export them."""

from collections.abc import Callable
from pathlib import Path
import warnings

import pytest
import torch
from torch import nn

Export = Callable[..., Path]


@pytest.fixture(scope='session')
def export(tmp_path_factory: pytest.TempPathFactory) -> Export:
    """Return what exports a torch module the way most trainers do."""
    folder = tmp_path_factory.mktemp('exports')

    def exported(module: nn.Module, width: int, name: str, opset: int = 17, batch: bool = True,
                 inputs: tuple[str, ...] = ('obs',), outputs: tuple[str, ...] = ('actions',),
                 shape: tuple[int, ...] = (1,)) -> Path:
        path = folder / f'{name}.onnx'
        example = tuple(torch.zeros(*shape, width) for _ in inputs)
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            torch.onnx.export(
                module.eval(), example, str(path), input_names=list(inputs),
                output_names=list(outputs), opset_version=opset, dynamo=False,
                dynamic_axes={name: {0: 'batch'} for name in (*inputs, *outputs)} if batch else {})
        return path
    return exported
