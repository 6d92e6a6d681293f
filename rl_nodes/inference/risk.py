# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Networks that say how risky an action is, as bundles like any policy.

Theirs is the contract of robot and task with one change: what they observe is an observation and
an action, what they answer is the risk, from 0 to 1.
"""

from collections.abc import Callable
from pathlib import Path
from queue import Empty, SimpleQueue
import threading

import msgspec
import numpy as np
from rl_nodes.core.contract import Contract
from rl_nodes.core.errors import BundleError
from rl_nodes.core.specs import ArraySpec
from rl_nodes.inference.bundle import PolicyBundle

ALGORITHM = 'risk'


def risk_contract(contract: Contract) -> Contract:
    """
    Return what a risk network relies on where policies rely on a contract.

    :raises BundleError: actions that are no numbers from a range.
    """
    if contract.action_choices == 'discrete':
        raise BundleError(f'{contract.task}: actions are counted; a risk network takes continuous '
                          'ones')
    seen, done = contract.observation, contract.action
    asked = ArraySpec(
        seen.name, (*seen.elements, *(f'action/{name}' for name in done.elements)),
        (*seen.units, *done.units), (*seen.low, *done.low), (*seen.high, *done.high))
    return msgspec.structs.replace(
        contract, observation=asked, action=ArraySpec(ALGORITHM, (ALGORITHM,), ('1',), (0.0,),
                                                      (1.0,)),
        action_kind=ALGORITHM, privileged_spec=msgspec.UNSET, pictures_spec=msgspec.UNSET)


def load_risk(path: Path, sha256: str, contract: Contract) -> PolicyBundle:
    """
    Return the network in a file.

    :param sha256: that the file must have.
    :param contract: of robot and task.
    :raises BundleError: damaged or another file than meant.
    :raises ContractError: made for something else.
    """
    bundle = PolicyBundle.load(path)
    if bundle.manifest.sha256 != sha256:
        raise BundleError(f'{path}: SHA-256 {bundle.manifest.sha256[:16]}..., its guard was '
                          f'calibrated with {sha256[:16]}...; copy both files again')
    risk_contract(contract).require(bundle.manifest.contract,
                                    f'robot {contract.robot} doing {contract.task}',
                                    f'risk network {path.name}')
    return bundle


class Bounded:
    """
    Asks in a thread of its own and waits no longer than a bound.

    :param answer: what is asked; gives back the interpreter's lock while it computes.
    :param bound_s: longest time that is waited.
    """

    def __init__(self, answer: Callable[[np.ndarray], np.ndarray], bound_s: float) -> None:
        self._answer, self._bound_s = answer, bound_s
        self._asked: SimpleQueue[np.ndarray | None] = SimpleQueue()
        self._answers: SimpleQueue[np.ndarray | Exception] = SimpleQueue()
        self._late = False
        threading.Thread(target=self._run, name='risk', daemon=True).start()

    def __call__(self, asked: np.ndarray) -> np.ndarray:
        """
        Return the answer, which the next one may overwrite.

        :param asked: not to be changed afterwards.
        :raises TimeoutError: there is none in time, or the one before is still being computed.
        """
        if self._late and self._answers.empty():
            raise TimeoutError('an earlier answer is still being computed')
        if self._late:
            self._answers.get()
        self._asked.put(asked)
        self._late = True
        try:
            answer = self._answers.get(timeout=self._bound_s)
        except Empty:
            raise TimeoutError(f'no answer within {self._bound_s * 1e3:.3g} ms') from None
        self._late = False
        if isinstance(answer, Exception):
            raise answer
        return answer

    def close(self) -> None:
        """Let the thread end once it is idle."""
        self._asked.put(None)

    def _run(self) -> None:
        while (asked := self._asked.get()) is not None:
            try:
                self._answers.put(self._answer(asked))
            except Exception as error:  # raised where somebody asked
                self._answers.put(error)
