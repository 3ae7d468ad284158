"""Flows over shared banks and links: needs capacities, gives max-min fair rates and when each flow ends.

A flow moves `amount` bytes and loads each of its resources with a weight (bytes of the resource a byte of the flow).
Rates follow progressive filling: all rise together until a flow meets its own cap or a resource is full. They change
only when a flow that shares a full resource starts or ends, so a resource whose caps add up to less than it can give
costs nothing. Times are integer picoseconds; rates are bytes a picosecond.
"""

from __future__ import annotations

from collections.abc import Iterable
from heapq import heappush
from itertools import count
from math import ceil

PS_PER_SECOND = 10**12
_SLACK = 16  # bytes a second by which rounded caps may exceed a capacity they equal
_GRAIN = 1e-3  # picoseconds: float noise that must not add a picosecond
_ROUND_UP = 1 - _GRAIN
_NEVER = 1 << 62


class Resource:
    """A bank or one direction of a link. `demand` is what its active flows could take at their caps, bytes a second."""

    __slots__ = ("active", "capacity", "demand", "key", "kind", "latency_ps", "limit", "log", "mixed", "rate")

    def __init__(self, key: str, kind: str, bytes_per_second: int, latency_ps: int = 0) -> None:
        self.key, self.kind = key, kind
        self.capacity = bytes_per_second
        self.limit = bytes_per_second + _SLACK  # a greater demand must be shared
        self.latency_ps = latency_ps
        self.rate = bytes_per_second / PS_PER_SECOND
        self.demand = 0
        self.mixed = 0  # active flows that load other resources too
        self.active: list[Flow] = []
        self.log: list[tuple[int, float]] | None = None  # (time, bytes a picosecond) for the trace


class Route:
    """What a kind of transfer loads and how fast it may be: made once an instruction, used every iteration."""

    __slots__ = ("alone_ps", "amount", "cap", "resources", "single", "uses", "weights")

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
        self.single = resources[0] if len(resources) == 1 and weights[0] == 1.0 else None


class Flow:
    """The transfer that a queue has under way; one object a queue, used again and again.

    due: when it ends at its present rate. event_ps: the time of its event in the heap, never after `due`: a flow that
    slows down keeps its event, and asks again when that is reached."""

    __slots__ = ("cap", "due", "event_ps", "last", "owner", "rate", "remaining", "route", "version")

    def __init__(self, owner: int) -> None:
        self.owner = owner
        self.version = 0
        self.rate = self.remaining = self.cap = 0.0
        self.last = self.due = self.event_ps = 0
        self.route: Route | None = None


class Network:
    """All active flows. `heap` takes (time, serial, owner, version) whenever a flow may have ended; the owner of a
    popped event with the flow's own version asks `over` whether it has."""

    def __init__(self, heap: list[tuple[int, int, int, int]], serial: count[int], logged: Iterable[Resource]) -> None:
        """logged: the resources that keep a log of their rates."""
        self._heap = heap
        self._serial = serial
        self._logged = tuple(logged)

    def start(self, flow: Flow, route: Route, now: int) -> None:
        flow.route, flow.last, flow.cap = route, now, route.cap
        flow.remaining, flow.rate = float(route.amount), 0.0
        flow.version += 1
        flow.event_ps = _NEVER
        single = route.single
        if single is not None:
            single.active.append(flow)
            single.demand += route.uses[0]
            tight = single.demand > single.limit
        else:
            tight = False
            for resource, use in zip(route.resources, route.uses, strict=True):
                resource.active.append(flow)
                resource.demand += use
                resource.mixed += 1
                tight = tight or resource.demand > resource.limit
        if tight:
            self._share(route, now)
        else:
            flow.rate = route.cap
            flow.due = flow.event_ps = now + route.alone_ps
            heappush(self._heap, (flow.due, next(self._serial), flow.owner, flow.version))
        if self._logged:
            self._note(now)

    def over(self, flow: Flow, now: int) -> bool:
        """Ends the flow if its time has come, else asks for another event then."""
        if flow.due > now:
            flow.event_ps = flow.due
            heappush(self._heap, (flow.due, next(self._serial), flow.owner, flow.version))
            return False
        route = flow.route
        assert route is not None
        flow.version += 1
        flow.route = None
        single = route.single
        if single is not None:
            tight = single.demand > single.limit
            single.active.remove(flow)
            single.demand -= route.uses[0]
        else:
            tight = False
            for resource, use in zip(route.resources, route.uses, strict=True):
                tight = tight or resource.demand > resource.limit
                resource.active.remove(flow)
                resource.demand -= use
                resource.mixed -= 1
        if tight:
            self._share(route, now)
        if self._logged:
            self._note(now)
        return True

    def _share(self, changed: Route, now: int) -> None:
        """New rates for every flow joined to the route's resources through full ones."""
        single = changed.single
        if single is not None and not single.mixed:
            self._share_one(single, now)
            return
        resources: list[Resource] = list(changed.resources)
        flows: list[Flow] = []
        seen_flows: set[int] = set()
        seen = {id(r) for r in resources}
        for resource in resources:  # grows as it goes
            for flow in resource.active:
                if flow.owner not in seen_flows:
                    seen_flows.add(flow.owner)
                    flows.append(flow)
                    assert flow.route is not None
                    for other in flow.route.resources:
                        if id(other) not in seen and other.demand > other.limit:
                            seen.add(id(other))
                            resources.append(other)
        for flow, rate in zip(flows, _fill(flows, [r for r in resources if r.demand > r.limit]), strict=True):
            self._set(flow, rate, now)

    def _share_one(self, resource: Resource, now: int) -> None:
        """The common case: all flows load this resource alone."""
        flows = resource.active
        users = len(flows)
        if not users:
            return
        share = resource.rate / users
        for flow in flows:
            if flow.cap < share:
                break
        else:
            for flow in flows:
                self._set(flow, share, now)
            return
        left = resource.rate
        for cap, k in sorted((flow.cap, k) for k, flow in enumerate(flows)):
            rate = min(cap, left / users)
            self._set(flows[k], rate, now)
            left -= rate
            users -= 1

    def _set(self, flow: Flow, rate: float, now: int) -> None:
        old = flow.rate
        if old == rate:
            return
        left = flow.remaining = flow.remaining - old * (now - flow.last)
        flow.last, flow.rate = now, rate
        flow.due = due = now + int(left / rate + _ROUND_UP) if left > 0 else now
        if due < flow.event_ps:
            flow.event_ps = due
            flow.version += 1
            heappush(self._heap, (due, next(self._serial), flow.owner, flow.version))

    def _note(self, now: int) -> None:
        for resource in self._logged:
            used = 0.0
            for flow in resource.active:
                assert flow.route is not None
                used += flow.rate * flow.route.weights[flow.route.resources.index(resource)]
            if resource.log is not None and (not resource.log or resource.log[-1][1] != used):
                resource.log.append((now, used))


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
        capped = [f for f in open_flows if flows[f].cap <= level * (1 + 1e-12)]
        if capped:  # flows below the common level stop at their caps first
            lowest = min(flows[f].cap for f in capped)
            done = [f for f in capped if flows[f].cap <= lowest * (1 + 1e-12)]
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
