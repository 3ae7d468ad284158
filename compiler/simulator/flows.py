"""Flows over shared banks and links: needs capacities, gives max-min fair rates and when each flow ends.

A flow moves `amount` bytes and loads each of its resources with a weight (bytes of the resource a byte of the flow).
Rates follow progressive filling: all rise together until a flow meets its own cap or a resource is full. They change
only when a flow that shares a full resource starts or ends, so a resource whose caps add up to less than it can give
costs nothing. Times are integer picoseconds; rates are bytes a picosecond.
"""

from __future__ import annotations

from heapq import heappush
from itertools import count
from math import ceil

PS_PER_SECOND = 10**12
_SLACK = 16  # bytes a second by which rounded caps may exceed a capacity they equal
_GRAIN = 1e-3  # picoseconds: float noise that must not add a picosecond


class Resource:
    """A bank or one direction of a link. `demand` is what its active flows could take at their caps, bytes a second."""

    __slots__ = ("active", "capacity", "demand", "key", "kind", "latency_ps", "log", "rate")

    def __init__(self, key: str, kind: str, bytes_per_second: int, latency_ps: int = 0) -> None:
        self.key, self.kind = key, kind
        self.capacity = bytes_per_second
        self.latency_ps = latency_ps
        self.rate = bytes_per_second / PS_PER_SECOND
        self.demand = 0
        self.active: list[Flow] = []
        self.log: list[tuple[int, float]] | None = None  # (time, bytes a picosecond) for the trace

    @property
    def tight(self) -> bool:
        return self.demand > self.capacity + _SLACK


class Route:
    """What a kind of transfer loads and how fast it may be: made once an instruction, used every iteration."""

    __slots__ = ("alone_ps", "amount", "cap", "resources", "uses", "weights")

    def __init__(
        self, amount: int, resources: tuple[Resource, ...], weights: tuple[float, ...], least_ps: int = 0
    ) -> None:
        """least_ps: duration below which the transfer cannot come, of its own port; 0 for none."""
        self.amount = amount
        self.resources, self.weights = resources, weights
        cap = amount / least_ps if least_ps else float("inf")
        for resource, weight in zip(resources, weights, strict=True):
            cap = min(cap, resource.rate / weight)
        self.cap = cap
        self.uses = tuple(round(cap * w * PS_PER_SECOND) for w in weights)
        self.alone_ps = max(least_ps, ceil(amount / cap - _GRAIN)) if amount else 0


class Flow:
    """The transfer that a queue has under way; one object a queue, used again and again."""

    __slots__ = ("last", "owner", "rate", "remaining", "route", "version")

    def __init__(self, owner: int) -> None:
        self.owner = owner
        self.version = 0
        self.rate = self.remaining = 0.0
        self.last = 0
        self.route: Route | None = None


class Network:
    """All active flows. Pushes (time, serial, owner, version) on `heap` for each expected end; the owner of a popped
    event asks `ended` whether it is still true."""

    def __init__(self, heap: list[tuple[int, int, int, int]], serial: count[int]) -> None:
        self._heap = heap
        self._serial = serial

    def start(self, flow: Flow, route: Route, now: int) -> None:
        flow.route, flow.last = route, now
        flow.remaining, flow.rate = float(route.amount), 0.0
        flow.version += 1
        tight = False
        for resource, use in zip(route.resources, route.uses, strict=True):
            resource.active.append(flow)
            resource.demand += use
            tight = tight or resource.demand > resource.capacity + _SLACK
        if tight:
            self._share(route.resources, now)
        else:
            flow.rate = route.cap
            heappush(self._heap, (now + route.alone_ps, next(self._serial), flow.owner, flow.version))
        self._note(route.resources, now)

    def end(self, flow: Flow, now: int) -> None:
        route = flow.route
        assert route is not None
        flow.version += 1
        tight = False
        for resource, use in zip(route.resources, route.uses, strict=True):
            tight = tight or resource.demand > resource.capacity + _SLACK
            resource.active.remove(flow)
            resource.demand -= use
        flow.route = None
        if tight:
            self._share(route.resources, now)
        self._note(route.resources, now)

    @staticmethod
    def _note(resources: tuple[Resource, ...], now: int) -> None:
        for resource in resources:
            if resource.log is not None:
                used = 0.0
                for flow in resource.active:
                    assert flow.route is not None
                    used += flow.rate * flow.route.weights[flow.route.resources.index(resource)]
                resource.log.append((now, used))

    def _share(self, touched: tuple[Resource, ...], now: int) -> None:
        """New rates for every flow joined to `touched` through full resources."""
        if len(touched) == 1 and self._share_one(touched[0], now):
            return
        resources, flows = list(touched), []
        seen_flows: set[int] = set()
        seen = {id(r) for r in resources}
        for resource in resources:  # grows as it goes
            for flow in resource.active:
                if flow.owner not in seen_flows:
                    seen_flows.add(flow.owner)
                    flows.append(flow)
                    assert flow.route is not None
                    for other in flow.route.resources:
                        if id(other) not in seen and other.tight:
                            seen.add(id(other))
                            resources.append(other)
        for flow, rate in zip(flows, _fill(flows, [r for r in resources if r.tight]), strict=True):
            self._set(flow, rate, now)

    def _share_one(self, resource: Resource, now: int) -> bool:
        """The common case: flows that load this resource alone, weight 1. False if it is not that case."""
        flows = resource.active
        for flow in flows:
            assert flow.route is not None
            if len(flow.route.resources) > 1:
                return False
        if not flows:
            return True
        if len(flows) == 1:
            only = flows[0].route
            assert only is not None
            self._set(flows[0], only.cap, now)
            return True
        left, users = resource.rate, len(flows)
        for flow in sorted(flows, key=_cap):
            share = left / users
            rate = min(_cap(flow), share)
            self._set(flow, rate, now)
            left -= rate
            users -= 1
        return True

    def _set(self, flow: Flow, rate: float, now: int) -> None:
        old = flow.rate
        if abs(rate - old) <= 1e-12 * rate:
            return
        if old:
            flow.remaining -= old * (now - flow.last)
        flow.last, flow.rate = now, rate
        flow.version += 1
        wait = ceil(flow.remaining / rate - _GRAIN)
        heappush(self._heap, (now + max(wait, 0), next(self._serial), flow.owner, flow.version))


def _cap(flow: Flow) -> float:
    assert flow.route is not None
    return flow.route.cap


def _fill(flows: list[Flow], resources: list[Resource]) -> list[float]:
    """Progressive filling: rates of `flows` under their caps and the capacities of `resources`."""
    index = {id(r): k for k, r in enumerate(resources)}
    loads: list[list[tuple[int, float]]] = []
    for flow in flows:
        assert flow.route is not None
        pairs = zip(flow.route.resources, flow.route.weights, strict=True)
        loads.append([(index[id(r)], w) for r, w in pairs if id(r) in index])
    left = [r.rate for r in resources]
    weight = [0.0] * len(resources)
    for load in loads:
        for r, w in load:
            weight[r] += w
    rates = [0.0] * len(flows)
    open_flows = list(range(len(flows)))
    while open_flows:
        level = min((left[r] / weight[r] for r in range(len(resources)) if weight[r] > 1e-12), default=float("inf"))
        capped = [f for f in open_flows if _cap(flows[f]) <= level * (1 + 1e-12)]
        if capped:  # flows below the common level stop at their caps first
            lowest = min(_cap(flows[f]) for f in capped)
            done = [f for f in capped if _cap(flows[f]) <= lowest * (1 + 1e-12)]
            value = lowest
        else:
            full = {r for r in range(len(resources)) if weight[r] > 1e-12 and left[r] / weight[r] <= level * (1 + 1e-9)}
            done = [f for f in open_flows if any(r in full for r, _ in loads[f])]
            value = level
        for f in done:
            rates[f] = value
            for r, w in loads[f]:
                left[r] = max(0.0, left[r] - value * w)
                weight[r] -= w
        closed = set(done)
        open_flows = [f for f in open_flows if f not in closed]
    return rates
