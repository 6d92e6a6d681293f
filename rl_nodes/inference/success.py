# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Networks that say how likely a state is one of success, as bundles like any policy.

Theirs is the contract of robot and task with one change: what they observe is made of signals of
one state and its goal, what they answer is log-odds. The threshold above which a state counts as
success is part of the manifest's evaluation.
"""

import math
from pathlib import Path
from typing import Annotated

import msgspec
from rl_nodes.core.contract import Contract
from rl_nodes.core.errors import BundleError
from rl_nodes.core.specs import ArraySpec
from rl_nodes.inference.bundle import PolicyBundle

ALGORITHM = 'success_classifier'
MOST_LOG_ODDS = 10.0  # [nat], a probability of 0.99995

_Share = Annotated[float, msgspec.Meta(ge=0, le=1)]


class Figures(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """
    What was found on episodes that the network has not learned from: the manifest's evaluation.

    :param threshold: probability above which a state counts as success.
    :param false_success: rate among the other states that the threshold was chosen for.
    :param positives: states of success that the figures below were found on.
    :param negatives: other states, ditto.
    :param found_false_success: share of these other states that were taken for success.
    :param precision: share of states taken for success that are.
    :param recall: share of states of success that were taken for it.
    :param auc: share of pairs of a state of success and another one that are ranked right.
    :param log_loss: mean of -log of the probability of what is true, either kind by half [nat].
    """

    threshold: Annotated[float, msgspec.Meta(gt=0, lt=1)]
    false_success: _Share
    positives: Annotated[int, msgspec.Meta(ge=1)]
    negatives: Annotated[int, msgspec.Meta(ge=1)]
    found_false_success: _Share
    precision: _Share
    recall: _Share
    auc: _Share
    log_loss: Annotated[float, msgspec.Meta(ge=0)]


def success_contract(contract: Contract, seen: ArraySpec, geometry: str) -> Contract:
    """
    Return what a success classifier relies on where policies rely on a contract.

    :param seen: layout of the signals that it sees.
    :param geometry: that these are derived by, see :meth:`RobotModel.geometry`.
    """
    return msgspec.structs.replace(
        contract, observation=msgspec.structs.replace(seen, name='observation'),
        action=ArraySpec('success', ('log_odds',), ('1',), (-MOST_LOG_ODDS,), (MOST_LOG_ODDS,)),
        action_kind=ALGORITHM, kinematics=geometry, privileged_spec=msgspec.UNSET,
        pictures_spec=msgspec.UNSET)


def load_success(path: Path) -> tuple[PolicyBundle, Figures]:
    """
    Return the classifier in a file and its figures; whom it was made for is not compared yet.

    :raises BundleError: damaged, or no success classifier.
    """
    bundle = PolicyBundle.load(path)
    if bundle.manifest.contract.action_kind != ALGORITHM:
        raise BundleError(f'{path}: {bundle.label} answers '
                          f'{bundle.manifest.contract.action_kind}, expected {ALGORITHM}; '
                          f'"rl_nodes train algorithm:={ALGORITHM}" makes one')
    try:
        return bundle, msgspec.convert(bundle.manifest.evaluation, Figures)
    except msgspec.ValidationError as error:
        raise BundleError(f'{path}: the evaluation of a success classifier: {error}; train it '
                          'again') from None


def signals_of(contract: Contract) -> tuple[str, ...]:
    """Return the signals that a classifier of this contract sees, in order."""
    return tuple(dict.fromkeys(
        name.partition('/')[0] for name in contract.observation.elements))


def probability(log_odds: float) -> float:
    """Return the probability that log-odds [nat] mean."""
    return 1.0 / (1.0 + math.exp(-log_odds))
