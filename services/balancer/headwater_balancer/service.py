"""The balancer process: wires what decides, what asks origins and what moves groups to a node."""

import time
from dataclasses import replace
from typing import Any

from headwater_bus.logs import get_log
from headwater_bus.node import Node, NodeConfig
from headwater_bus.view import leading_balancer

from headwater_balancer.config import BalancerConfig
from headwater_balancer.granting import Granter
from headwater_balancer.holdings import Holdings
from headwater_balancer.mover import Mover
from headwater_balancer.operating import Operating
from headwater_balancer.origins import Origins
from headwater_balancer.policy import Policy, PolicyError, PolicyOptions, make_policy
from headwater_balancer.rebalancing import Rebalancer
from headwater_balancer.rules import Rules

_log = get_log("balancer")


class Balancer:
    """The balancer on a node: `start()` binds and begins; `node.run()` ends it."""

    def __init__(self, node: Node, config: BalancerConfig) -> None:
        self.node = node
        self._config = config
        self._policy, self._policy_name = config.policy, config.policy_name
        self.rules = self._with_own_pins(Rules())
        self.holdings = Holdings()
        self._origins = Origins(node)
        self._led = False
        self.mover = Mover(node, self._origins, lambda move: self.operating.objection(move), self._move_ended)
        self.rebalancer = Rebalancer(
            node,
            self._origins,
            self.mover,
            lambda: self.rules,
            self.leads,
            config.cooldown_s,
            config.patience_s,
        )
        self.granter = Granter(
            node,
            self.holdings,
            config.request_s,
            self.leader,
            lambda: self._policy,
            lambda: self.rules,
            self.rebalancer.book.busy,
        )
        self.server = self.granter.server
        self.operating = Operating(
            node,
            self.server,
            self.mover,
            self.rebalancer,
            lambda: self.rules,
            self.leader,
            lambda: self._policy_name,
            config.request_s,
        )
        node.view.on_change(self._changed)
        node.health_provider = self.health

    def start(self) -> str:
        """Bind, register and begin; returns the endpoint."""
        endpoint = self.server.bind(f"tcp://{self.node.config.bind}:*")
        for name, job in (
            ("decide", self.granter.work),
            ("move", self.mover.work),
            ("loads", self.rebalancer.poll),
            ("plan", self.rebalancer.work),
        ):
            self.node.spawn(name, job)
        self.node.start(endpoint, meta={"policy": self._policy_name})
        return endpoint

    def leader(self) -> str:
        """Node id of the balancer that decides; empty while none is registered."""
        found = leading_balancer(self.node.view.nodes.values())
        return found.node_id if found is not None else ""

    def leads(self) -> bool:
        """Whether that is this one."""
        found = leading_balancer(self.node.view.nodes.values())
        return found is not None and (found.node_id, found.boot) == (self.node.node_id, self.node.boot)

    def _move_ended(self) -> None:
        self.rebalancer.wake()

    def _changed(self, change: list[Any]) -> None:
        """A row of the feed, in the order of who needs whose work."""
        kind = change[0]
        if kind == "settings":
            self._take_rules(Rules.from_settings(change[1]))
        elif kind == "group" and change[2]:
            if self.holdings.owner(change[1]) not in (None, change[2]):
                self.rebalancer.moved(change[1], time.monotonic())
        elif kind == "group-gone":
            self.rebalancer.book.forget(change[1])
        elif kind == "node-gone":
            self._origins.forget(change[1])
            self.rebalancer.origin_gone(change[1])
        self.holdings.change(change)
        if kind in ("node", "node-gone"):
            self._watch_leader()
        self.granter.changed(change)
        if kind in ("settings", "node", "node-gone"):
            self.rebalancer.wake()

    def _watch_leader(self) -> None:
        leads = self.leads()
        if leads != self._led:
            self._led = leads
            _log.info("leads" if leads else "stands by", leader=self.leader() or "-")

    def _with_own_pins(self, rules: Rules) -> Rules:
        """The rules and those that this balancer was started with (`--pin`), which come last, while its policy is `pinned`."""
        return replace(rules, own_pins=self._config.pins if self._policy_name == "pinned" else ())

    def _take_rules(self, rules: Rules) -> None:
        """What operators have decided changed, here or by another balancer."""
        name = rules.policy or self._config.policy_name
        if name != self._policy_name:
            try:
                self._policy = self._config.policy if name == self._config.policy_name else self._made(name)
                self._policy_name = name
                _log.info("policy", policy=name)
            except PolicyError as error:
                _log.error("policy not taken", policy=name, stays=self._policy_name, error=error)
        self.rules = self._with_own_pins(rules)

    def _made(self, name: str) -> Policy:
        return make_policy(name, PolicyOptions(self._config.pins if name == "pinned" else ()))

    def health(self) -> dict[str, Any]:
        """For HealthRequest."""
        return {
            "policy": self._policy_name,
            "leader": self.leader(),
            "moved": self.mover.moved,
            "failed_moves": self.mover.failed,
            **self.granter.health(),
        }


def run(node_config: NodeConfig, config: BalancerConfig) -> int:
    """Serve until a signal; returns the exit status."""
    node = Node(node_config)
    endpoint = Balancer(node, config).start()
    _log.info("serving", endpoint=endpoint, policy=config.policy_name)
    return node.run()
