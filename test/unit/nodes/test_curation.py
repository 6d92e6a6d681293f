# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""E6: what a person asks of a recorder that has died is given up, and may be asked again."""

from collections.abc import Callable
from types import SimpleNamespace

import pytest
from rclpy.task import Future
from rl_nodes.core.timing import NS
from rl_nodes.nodes import curation
from rl_nodes.nodes.curation import ANSWER_S, Curator
from rl_nodes.teleop.device import Request
from std_srvs.srv import Trigger


class Service:
    """A client, and what it was asked; it stays ready for a while after its server has died."""

    def __init__(self, name: str) -> None:
        self.srv_name, self.asked, self.given_up = name, [], []
        self.remove_pending_request = self.given_up.append

    def service_is_ready(self) -> bool:
        return True

    def call_async(self, _request: Trigger.Request) -> Future:
        self.asked.append(Future())
        return self.asked[-1]


def test_no_answer_is_told_and_the_next_request_is_passed_on(
        monkeypatch: pytest.MonkeyPatch) -> None:
    now, said, services = 0, [], {}
    ticks: list[Callable[[], None]] = []
    monkeypatch.setattr(curation, 'steady_ns', lambda: now)
    curator = Curator(SimpleNamespace(
        every=lambda _, tick: ticks.append(tick),
        client_of=lambda _, name: services.setdefault(name, Service(name)),
        get_logger=lambda: SimpleNamespace(warning=said.append)))
    save, reset = (services[name] for name in (
        'experience_recorder/save_episode', 'robot_bridge/reset'))
    curator.request(Request.SAVE)
    curator.request(Request.SAVE)
    assert said.pop() == 'save: one request at a time'
    now += round(ANSWER_S * NS)
    ticks[0]()
    assert not said
    now += 1
    ticks[0]()
    assert 'save_episode has not answered for 1 s' in said.pop()
    assert save.given_up == save.asked
    assert not reset.asked, 'what was not done has no consequence'
    curator.request(Request.SAVE)
    save.asked[-1].set_result(Trigger.Response(success=True))
    now += NS * 5
    ticks[0]()
    assert (len(save.asked), len(reset.asked), said) == (2, 1, [])
