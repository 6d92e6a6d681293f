# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""A success classifier that nobody trained: the nearer the goal, the likelier."""

from pathlib import Path

import msgspec
import numpy as np
from onnx import helper, numpy_helper, TensorProto
from rl_nodes.core.resources import find_config
from rl_nodes.inference.bundle import GoldenVector, Manifest, PolicyBundle
from rl_nodes.inference.success import ALGORITHM, Figures
from rl_nodes.tasks import load_task
from rl_nodes.tasks.success import SuccessView

FIGURES = Figures(threshold=0.9, false_success=0.01, positives=10, negatives=20, auc=1.0,
                  found_false_success=0.0, precision=1.0, recall=1.0, log_loss=0.1)


def make_classifier(robot: str = 'arm', task: str = 'reach', signals=('goal_offset',),
                    slope: float = 50.0, evaluation=FIGURES,
                    kind: str = ALGORITHM) -> PolicyBundle:
    """Return one with log-odds 5 - slope * sum of |goal_offset| [m], within ±10."""
    contract = msgspec.structs.replace(
        SuccessView(load_task(robot, task), signals).contract, action_kind=kind)
    elements = contract.observation.elements
    weight = np.array([[-slope if name.startswith('goal_offset') else 0.0] for name in elements],
                      np.float32)
    size = len(elements)
    graph = helper.make_graph(
        [helper.make_node('Abs', ['observation'], ['far']),
         helper.make_node('MatMul', ['far', 'weight'], ['sum']),
         helper.make_node('Add', ['sum', 'bias'], ['odds']),
         helper.make_node('Clip', ['odds', 'low', 'high'], ['action'])], 'classifier',
        [helper.make_tensor_value_info('observation', TensorProto.FLOAT, [1, size])],
        [helper.make_tensor_value_info('action', TensorProto.FLOAT, [1, 1])],
        [numpy_helper.from_array(value, name) for name, value in (
            ('weight', weight), ('bias', np.array([5.0], np.float32)),
            ('low', np.float32(-10.0)), ('high', np.float32(10.0)))])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 20)], ir_version=10)
    manifest = Manifest(
        name=f'{task}_success', version=1, sha256='', size=0, opset=20, contract=contract,
        algorithm=ALGORITHM, sampling='deterministic', training_commit='', training_updates=0,
        evaluation=evaluation and msgspec.to_builtins(evaluation), data={},
        created='2026-01-01T00:00:00+00:00', golden=(GoldenVector((0.0,) * size, (5.0,)),))
    helper.set_model_props(model, manifest.metadata())
    return PolicyBundle.sealed(model.SerializeToString(), manifest)


def classified_task(folder: Path, section: str = '', reward: str = 'success_probability: 1.0',
                    task: str = 'reach', **classifier) -> str:
    """Return the file of a shipped task whose reward is a classifier's, which is beside it."""
    make_classifier(task=task, **classifier).save(folder / 'success.onnx')
    path = folder / f'{task}_by_example.yaml'
    text = find_config('tasks', task).read_text()
    path.write_text(text[:text.index('reward:')] + text[text.index('goal:'):] + (
        f'\nreward: {{{reward}}}\n'
        f'success_classifier: {{file: success.onnx, examples_of: {task}{section}}}\n'))
    return str(path)
