"""The forwarder: queries upstreams in order, once per question, with a cache.

Upstreams may serve different data, so they are never raced: the first live one is used.  The
forwarder never raises: after its timeout it returns a stale response, or SERVFAIL with a
reason (RFC 8914).
"""

import asyncio
import ipaddress
import logging
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from containerdns.config.groups import UpstreamSettings
from containerdns.config.machine import descriptor_limit
from containerdns.core import names
from containerdns.core.connections.descriptors import share_of
from containerdns.core.counters import Counters
from containerdns.core.endpoints import SYSTEM, Endpoint, UpstreamServer
from containerdns.core.protocol import messages
from containerdns.core.protocol.messages import Response
from containerdns.core.upstream.forwarding import Forward, Resolution
from containerdns.core.upstream.plain_answers import PlainAnswer
from containerdns.core.upstream.plain_questions import PlainQuestion
from containerdns.core.upstream.questions import Question, question_of
from containerdns.core.upstream.scrub import MAX_NEGATIVE, Trust, is_private, scrub
from containerdns.core.upstream.upstream_cache import Cache, Cached
from containerdns.errors import BadSettings
from containerdns.upstream.datagrams import OpenPorts
from containerdns.upstream.exchanges import Inbox, Trouble, TroubleKind
from containerdns.upstream.flights import MAX_ERROR_TEXT, Flight, UpstreamAnswer, Waiter, error_of
from containerdns.upstream.loops import Loops, is_own_address
from containerdns.upstream.plain_flights import PlainFlights
from containerdns.upstream.system import EVERY, RESOLV_CONF, SystemServers
from containerdns.upstream.timeouts import Timeouts
from containerdns.upstream.upstreams import Surroundings, Upstream

STALE_PATIENCE = 1.8  # seconds until a stale response is given, RFC 8767 section 5
MAX_FLIGHTS = 2048  # questions in flight, as many as PowerDNS Recursor has by default
MAX_PROBE = 1.0  # seconds for the answer of a loop, which is near
BOOTSTRAP = ""  # in place of a `--forward` domain: the servers that resolve hosts of URLs
MIN_JOINED = 256  # questions of a client, if they are in flight for others already

FILTERED, NO_REACHABLE_AUTHORITY = 17, 22  # RFC 8914 section 4

FAULT = Resolution(messages.SERVFAIL, source="policy", reason="internal error")
TOO_MANY = Resolution(messages.REFUSED, source="policy", reason="too many questions are in flight")
STOPPED = Resolution(messages.SERVFAIL, source="policy", reason="the forwarder has stopped")

Lists = dict[str | None, tuple[UpstreamServer, ...]]  # by domain; None is `--upstream`

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class UpstreamStatus:
    """The status of one upstream in one list.

    Attributes:
        name: As configured.
        apex: The domain of its `--forward`, None for `--upstream`.
        order: Its place in that list, from 0.
        is_healthy: In use.
        aside_for: Seconds until it is tried again; 0 if it is not down.
        round_trip: Seconds, smoothed; 0 before the first answer.
        last_failure: In words; "" if there was none.
    """

    name: str
    apex: str | None
    order: int
    is_healthy: bool
    aside_for: float
    round_trip: float
    last_failure: str


class Prospect(NamedTuple):
    """What would happen to a question.

    Attributes:
        listed: The list of servers: "--upstream", or the domain of a `--forward`.
        server: Its first live server; None without one.
        left: Seconds until a cached response expires; None without one.
        cached: That response.
    """

    listed: str
    server: str | None
    left: float | None = None
    cached: Cached | None = None


class Forwarder:
    """Forwards questions to the upstreams."""

    def __init__(
        self,
        settings: UpstreamSettings,
        counters: Counters,
        is_ours: Callable[[str], bool],
        loop_token: str = "",
        resolv_conf: Path = RESOLV_CONF,
    ) -> None:
        """Initialise; nothing is opened before `run`.

        Args:
            settings: The lists of upstreams.
            counters: Counts queries, hits and refusals.
            is_ours: Returns whether a canonical name must not be forwarded.
            loop_token: The same in all processes that answer on one socket; see `Loops`.
            resolv_conf: The file of the system's servers, for `system`.
        """
        self._settings = settings
        self._counters = counters
        self._is_ours = is_ours
        self._cache = Cache(settings.cache_size)
        self._flights: dict[Question, Flight] = {}
        self._plain = PlainFlights(self)
        self._waiting: dict[bytes, int] = {}  # by client, the questions that it waits for
        self._loops = Loops(loop_token)
        self._trusts: dict[tuple[str | None, bool], Trust] = {}
        self._upstreams: dict[UpstreamServer, Upstream] = {}
        self._lists: dict[str | None, tuple[Upstream, ...]] = {}
        self._cached_from: dict[str | None, tuple[UpstreamServer, ...]] = {}
        self._system = SystemServers(resolv_conf)
        self._listening: tuple[Endpoint, ...] = settings.listen
        self.has_started = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop
        self._surroundings: Surroundings
        self._tasks: asyncio.TaskGroup
        self.timeouts: Timeouts

    async def run(self) -> None:
        """Own the sockets and the tasks until cancelled."""
        self._loop = asyncio.get_running_loop()
        self.timeouts = Timeouts(self._loop)
        async with asyncio.TaskGroup() as self._tasks:
            self._surroundings = Surroundings(
                loop=self._loop,
                counters=self._counters,
                spawn=self._spawn,
                bootstrap=self._addresses_of,
                probe=self._loops.probe,
                label_probe=self._loops.label_probe,
                sends_labels_back=self._leave_for_labels,
                is_loop=self._loops.is_loop,
                open_ports=OpenPorts(share_of(descriptor_limit()), self._loop),
                plain=self._plain,
            )
            self._take_lists(self._settings)
            self.has_started.set()
            try:
                await self._follow_system()
            finally:
                self.has_started.clear()  # should this run again, with connections of its own
                self._plain.become_flights()
                for flight in list(self._flights.values()):
                    self._land(flight, STOPPED)
                for upstream in self._upstreams.values():
                    upstream.close()
                self._upstreams.clear()
                self._lists = {}
                self.timeouts.close()
                self._surroundings.open_ports.close()

    async def _follow_system(self) -> None:
        """Follow the servers in resolv.conf."""
        while True:
            await asyncio.sleep(EVERY)
            if self._system.look():
                self._take_lists(self._settings)

    def reload(self, settings: UpstreamSettings) -> None:
        """Use other settings; responses of lists that stay the same stay cached."""
        if _scrubbed_by(settings) != _scrubbed_by(self._settings):
            self._cache.clear()
        self._settings = settings
        self._trusts.clear()
        if self.has_started.is_set():
            self._take_lists(settings)
        self._cache.resize(settings.cache_size)

    @property
    def cache_entries(self) -> int:
        """The number of responses in the cache."""
        return len(self._cache)

    async def detect_loop(self, listening: Iterable[Endpoint]) -> None:
        """Detect an upstream that is this server itself, within `MAX_PROBE` seconds.

        Must be called while `run` runs and the sockets answer.  An upstream that does not
        answer is not an error.  One from resolv.conf is no longer used, as it was not
        configured explicitly.

        Args:
            listening: The addresses that we listen on.

        Raises:
            BadSettings: A configured upstream leads back to us.
        """
        await self.has_started.wait()
        self._listening = tuple(listening)
        chosen = {server for servers in self._configured() for server in servers}
        for upstream in await self._find_loops(list(self._upstreams.values())):
            if upstream.server in chosen:
                raise self._is_a_loop(upstream)
            upstream.leave_for_good()

    async def _leave_loops(self, upstreams: list[Upstream]) -> None:
        """Stop using those of some new upstreams that lead back to us."""
        for upstream in await self._find_loops(upstreams):
            upstream.leave_for_good()

    async def _find_loops(self, asked: list[Upstream]) -> list[Upstream]:
        """Query upstreams for a name that only we know; return those that are this server."""
        found = [u for u in asked if is_own_address(u.server, self._listening)]
        if found:
            return found
        outcomes = await self._ask_all(asked, self._loops.probe(), MAX_PROBE)
        return [
            upstream
            for upstream, outcome in outcomes.items()
            if isinstance(outcome, Response) and self._loops.is_loop(outcome)
        ]

    async def examine(self, patience: float) -> dict[str, str]:
        """Ask every upstream for the root's name servers, once.

        Args:
            patience: Seconds to wait for all of them together.

        Returns:
            By upstream, as configured, what is wrong with it; "" if it answers.
        """
        await self.has_started.wait()
        asked = list(self._upstreams.values())
        question = Question(names.ROOT, messages.NS, False, False, None)
        outcomes = await self._ask_all(asked, question, patience)
        silence = f"no answer within {patience:g} s"
        return {
            upstream.name: ""
            if isinstance(outcome := outcomes.get(upstream), Response)
            else str(outcome or silence)
            for upstream in asked
        }

    async def _ask_all(
        self, asked: list[Upstream], question: Question, patience: float
    ) -> dict[Upstream, Response | Trouble]:
        """Send one question to each of several upstreams; return their results in time."""
        inbox: Inbox[Upstream] = Inbox(self._loop)
        attempts = [upstream.send(question, inbox) for upstream in asked]
        until = self._loop.time() + patience
        outcomes: dict[Upstream, Response | Trouble] = {}
        while len(outcomes) < len(asked) and (arrival := await inbox.get(until)) is not None:
            source, outcome = arrival
            if isinstance(outcome, Response) or outcome.kind is not TroubleKind.MOVED:
                outcomes[source] = outcome
        for attempt in attempts:
            attempt.forget()
        return outcomes

    def cached(self, forward: Forward) -> Resolution | None:
        """Return what needs no upstream: a fresh response, or a recent failure."""
        if self._loops.is_probe(forward.name):
            return self._loops.answer(forward)
        question = question_of(forward)
        now = self._loop.time()
        cached = self._cache.fresh(question, now)
        if cached is None:
            self._counters.cache_misses += 1
            return None
        self._counters.cache_hits += 1
        self._prefetch(question, cached, now)
        given_out = cached.given_out(now)
        if now >= cached.expires:
            return given_out
        return given_out._replace(renewal=partial(self._renew, question, cached.since))

    def _renew(self, question: Question, since: float) -> float:
        """Return for how long a cached response may be reused from now on; see `Resolution`.

        Args:
            question: The question.
            since: When the response was received.
        """
        now = self._loop.time()
        cached = self._cache.renewed(question, since, now)
        if cached is None:
            return 0.0
        try:
            self._prefetch(question, cached, now)
        except Exception:  # as on the slow path: the other queries of the batch must be answered
            self._counters.internal_errors += 1
            log.exception("internal error while prefetching %s", question.name)
        return cached.fresh_for(now)

    def _prefetch(self, question: Question, cached: Cached, now: float) -> None:
        """Query the upstreams if a response is hot and near its end."""
        if cached.is_wanted_again(now) and question not in self._flights:
            self._begin(question)

    def ask(self, forward: Forward, take: Callable[[Resolution], None]) -> None:
        """Query the upstreams, or join a query for the same question.

        Args:
            forward: The question.
            take: Called with the result once, possibly before this returns.
        """
        client, question = forward.client, question_of(forward)
        if self._waiting.get(client, 0) < self._share(question):
            self._join(question, Waiter(client, take))
            return
        self._counters.forwards_refused += 1
        now = self._loop.time()
        stale = self._cache.stale(question, now)
        take(TOO_MANY if stale is None else stale.given_out(now))

    def ask_plain(self, plain: PlainQuestion) -> bool:
        """Query an upstream with the next `send_plain`; return whether this question is plain.

        One that is not, as it is cached, in flight, or over a limit, is left to `cached` and
        `ask`.  Otherwise its asker is called with the result once, after `send_plain` began.
        """
        question, client = plain.question, plain.client
        count = self._waiting.get(client, 0)
        if (
            (question in self._cache and self._cache.has(question, self._loop.time()))
            or question in self._plain.in_flight
            or question in self._flights
            or count >= self._share(question)
            or self._loops.is_probe(question.name)
            or not self.has_started.is_set()
        ):
            return False
        self._waiting[client] = count + 1
        self._counters.cache_misses += 1
        self._plain.add(plain)
        return True

    def send_plain(self) -> None:
        """Send the plain questions of this pass."""
        self._plain.send()

    def describe(self, name: str, qtype: int) -> Prospect:
        """Return what would happen to a question, without sending it."""
        apex = self._apex_of(name)
        question = Question(name, qtype, False, False, apex)
        order = self.order(question)
        prospect = Prospect(apex or "--upstream", order[0].name if order else None)
        now = self._loop.time()
        with_ad = question._replace(wants_ad=True)
        cached = self._cache.peek(question, now) or self._cache.peek(with_ad, now)
        if cached is None:
            return prospect
        return prospect._replace(left=cached.expires - now, cached=cached)

    def status(self) -> list[UpstreamStatus]:
        """Return the status of every upstream, list by list, in order."""
        now = self._loop.time()
        return [
            UpstreamStatus(
                upstream.name,
                apex,
                order,
                upstream.is_alive,
                max(upstream.health.aside_until - now, 0.0) if not upstream.is_alive else 0.0,
                upstream.health.smoothed,
                upstream.health.last_failure,
            )
            for apex, upstreams in self._lists.items()
            if apex != BOOTSTRAP
            for order, upstream in enumerate(upstreams)
        ]

    def _take_lists(self, settings: UpstreamSettings) -> None:
        lists = self._servers_by_apex(settings)
        wanted = dict.fromkeys(server for servers in lists.values() for server in servers)
        gone = [upstream for server, upstream in self._upstreams.items() if server not in wanted]
        new = [Upstream(s, self._surroundings) for s in wanted if s not in self._upstreams]
        self._upstreams.update((upstream.server, upstream) for upstream in new)
        self._lists = {
            apex: tuple(self._upstreams[server] for server in servers)
            for apex, servers in lists.items()
        }
        if gone:
            self._plain.become_flights()
        for upstream in gone:
            del self._upstreams[upstream.server]
            upstream.close()
        for flight in list(self._flights.values()):
            flight.leave(gone)
        self._forget_others(lists)
        if new and self.has_started.is_set():
            self._spawn(self._leave_loops(new))

    def _forget_others(self, lists: Lists) -> None:
        """Remove the cached responses of lists whose servers have changed.

        A list that is temporarily empty, as resolv.conf may be, keeps its responses: they can be
        served stale, and are still valid if the same servers come back.
        """
        self._cache.forget_failures()
        for apex in self._cached_from.keys() | lists.keys():
            servers = lists.get(apex)
            if servers is None or (servers and servers != self._cached_from.get(apex)):
                self._cache.forget_apex(apex)
            if servers:
                self._cached_from[apex] = servers
            elif servers is None:
                del self._cached_from[apex]

    def _leave_for_labels(self, upstream: Upstream) -> None:
        """Reroute questions for single labels, as this upstream asks us for them."""
        for question, flight in list(self._flights.items()):
            if names.is_single_label(question.name):
                flight.leave((upstream,))

    def _configured(self) -> list[tuple[UpstreamServer, ...]]:
        """Return the lists as configured."""
        return [self._settings.servers, *(servers for _, servers in self._settings.forwards)]

    def _servers_by_apex(self, settings: UpstreamSettings) -> Lists:
        """Return the lists with the system's servers in place of `system`.

        The hosts of `https://` upstreams are resolved through the other servers of
        `--upstream`, else through the system's.
        """
        lists: Lists = {None: settings.servers}
        lists.update(settings.forwards)
        if any(SYSTEM in servers for servers in lists.values()):
            found = self._system.servers(self._listening)
            lists = {apex: _replaced(servers, found) for apex, servers in lists.items()}
        if any(server.transport == "https" for servers in lists.values() for server in servers):
            plain = tuple(server for server in lists[None] if server.transport != "https")
            lists[BOOTSTRAP] = plain or self._system.servers(self._listening)
        return lists

    def _is_a_loop(self, upstream: Upstream) -> BadSettings:
        is_plain = upstream.server in self._settings.servers
        option = "--upstream" if is_plain else "--forward"
        return BadSettings(option, upstream.name, "a server that does not lead back to us")

    async def _addresses_of(self, host: str) -> list[str]:
        """Resolve the host of an https upstream through servers with known addresses."""
        try:
            return [str(ipaddress.ip_address(host))]
        except ValueError:
            pass
        found = []
        for qtype in (messages.A, messages.AAAA):
            question = Question(names.canonical(host), qtype, False, False, BOOTSTRAP)
            cached = self._cache.fresh(question, self._loop.time())
            known = cached.resolution if cached else await self._resolved(question)
            answer, *_ = messages.decode(question.wire[:-4], known.body)
            found += [str(ipaddress.ip_address(r.rdata)) for r in answer if r.rtype == qtype]
            if found:
                break
        return found

    def _resolved(self, question: Question) -> asyncio.Future[Resolution]:
        """Resolve a question of our own."""
        resolved: asyncio.Future[Resolution] = self._loop.create_future()
        self._join(question, Waiter(b"", lambda found: _settle(resolved, found)))
        return resolved

    def _spawn(self, work: Coroutine[Any, Any, object]) -> None:
        """Run a coroutine in the background; an internal error in it affects nothing else."""
        self._tasks.create_task(self._guard(work))

    async def _guard(self, work: Coroutine[Any, Any, object]) -> None:
        try:
            await work
        except Exception:  # as for a client of the server: the others must continue
            self._counters.internal_errors += 1
            log.exception("internal error while querying upstreams")

    def _apex_of(self, name: str) -> str | None:
        """Return the longest domain of a `--forward` at or above a name."""
        above = [apex for apex in self._lists if apex and names.is_below(name, apex)]
        return max(above, key=lambda apex: len(names.labels_of_text(apex)), default=None)

    def order(self, question: Question) -> tuple[Upstream, ...]:
        """Return the servers to query: live ones in order, else the one silent longest ago."""
        apex = question.apex
        if apex not in self._lists:  # a reload removed the list
            apex = self._apex_of(question.name)
        upstreams = self._lists.get(apex, ())
        if names.is_single_label(question.name):
            upstreams = tuple(u for u in upstreams if not u.sends_labels_back)
        alive = tuple([upstream for upstream in upstreams if upstream.is_alive])
        if alive:
            return alive
        others = [upstream for upstream in upstreams if not upstream.is_ourselves]
        return tuple(sorted(others, key=_last_resort)[:1])

    def _has_alive(self, apex: str | None) -> bool:
        return any(upstream.is_alive for upstream in self._lists.get(apex, ()))

    def _share(self, question: Question) -> int:
        """Return how many questions a client may have in flight before this one.

        As many as there are places left: so a single client, which may be a resolver or a proxy
        for many, can have half of them, and the first questions of others always find one.
        """
        plain = self._plain.in_flight
        left = MAX_FLIGHTS - len(self._flights) - len(plain)
        if left < MIN_JOINED and (question in self._flights or question in plain):
            return MIN_JOINED  # it takes no place
        return left

    def time(self) -> float:
        """Return the time by the loop's clock."""
        return self._loop.time()

    def _join(self, question: Question, waiter: Waiter) -> None:
        """Wait for the flight of a question, which is begun if there is none.

        If there is a stale response, the wait is short (RFC 8767 section 5), or none if no
        upstream is alive; the flight continues in the background.
        """
        self._waiting[waiter.client] = self._waiting.get(waiter.client, 0) + 1
        flight = (
            self._flights.get(question)
            or self._plain.become_flight(question)
            or self._begin(question)
        )
        self._let_wait(waiter, flight, self._loop.time())

    def _let_wait(self, waiter: Waiter, flight: Flight, since: float) -> None:
        """Add a client, which gets a stale response some time after it began to wait, if any."""
        flight.waiting.append(waiter)
        question = flight.question
        stale = self._cache.stale(question, self._loop.time())
        if stale is not None:
            patience = STALE_PATIENCE if self._has_alive(question.apex) else 0.0
            waiter.stale_at = self._loop.call_at(
                since + patience, self._give_stale, flight, waiter, stale
            )

    def _give_stale(self, flight: Flight, waiter: Waiter, stale: Cached) -> None:
        flight.waiting.remove(waiter)
        self._tell(waiter, stale.given_out(self._loop.time()))

    def _begin(self, question: Question) -> Flight:
        """Query the upstreams."""
        flight = self._flights[question] = Flight(question, self, self._loop)
        flight.begin()
        return flight

    def new_flight(self, question: Question, waiter: Waiter, since: float) -> Flight:
        """Return a flight that is not begun, for a client that is counted already.

        Args:
            question: The question.
            waiter: The client.
            since: When it began to wait, by the loop's clock.
        """
        flight = self._flights[question] = Flight(question, self, self._loop)
        self._let_wait(waiter, flight, since)
        return flight

    def go_on(self, flight: Flight) -> None:
        """Run the rest of a flight in a task."""
        self._spawn(self._fly(flight))

    async def _fly(self, flight: Flight) -> None:
        try:
            self.land(flight, await flight.fly())
        except Exception:
            self._land(flight, FAULT)
            raise

    def land(self, flight: Flight, answer: UpstreamAnswer | None) -> None:
        """End a flight, and pass the result to all waiters."""
        try:
            if answer is not None:
                resolution = self._accept(flight.question, answer)
            else:
                resolution = self._give_up(flight.question, flight)
        except Exception:
            self._counters.internal_errors += 1
            log.exception("internal error while reading what an upstream answered")
            resolution = FAULT
        self._land(flight, resolution)

    def _land(self, flight: Flight, resolution: Resolution) -> None:
        if self._flights.pop(flight.question, None) is None:
            return
        flight.end()
        for waiter in flight.waiting:
            if waiter.stale_at is not None:
                waiter.stale_at.cancel()
            self._tell(waiter, resolution)

    def _tell(self, waiter: Waiter, resolution: Resolution) -> None:
        """Pass the result to one waiter, containing its errors."""
        self._waits_no_more(waiter.client)
        try:
            waiter.take(resolution)
        except Exception:
            self._counters.internal_errors += 1
            log.exception("internal error while sending what an upstream answered")

    def _waits_no_more(self, client: bytes) -> None:
        """Count a client's question in flight no more."""
        count = self._waiting[client] - 1
        if count:
            self._waiting[client] = count
        else:
            del self._waiting[client]

    def may_pass(self, plain: PlainQuestion, answer: PlainAnswer) -> bool:
        """Return whether nothing is to be dropped from a plain answer, or added to it."""
        if (answer.targets or answer.rcode) and not plain.asker.may_pass(plain, answer):
            return False
        return not self._drops_private(plain.question) or not any(
            map(is_private, answer.records(plain.spelled))
        )

    def accept_plain(
        self, plain: PlainQuestion, answer: PlainAnswer, upstream: Upstream, now: float
    ) -> PlainAnswer:
        """Cache and return an answer that can be passed on; its client waits no more.

        Only the TTLs of a negative one may be lower then, as in `scrub`.
        """
        self._waits_no_more(plain.client)
        question = plain.question
        if answer.is_negative:
            longest = self._trust_in(upstream, question).max_negative_ttl
            answer = answer if longest >= MAX_NEGATIVE else answer.capped(longest)
        resolution = Resolution(
            answer.rcode,
            answer.body,
            answer.is_authentic,
            "upstream",
            upstream.name,
            None,
            upstream.reason,
            0.0,
            answer.targets,
            self._drops_private(question),
        )
        self._keep(question, Cached(resolution, now, now + answer.ttl))
        return answer

    def _accept(self, question: Question, answer: UpstreamAnswer) -> Resolution:
        """Scrub a response, cache it, and return it."""
        upstream, response = answer
        now = self._loop.time()
        trust = self._trust_in(upstream, question)
        if trust.drops_private != self._drops_private(question):
            trust = replace(trust, drops_private=False)
        scrubbed = scrub(response, question, trust)
        error = error_of(response)
        if scrubbed.lost_private:
            error = FILTERED, "private addresses dropped (--rebind-protection)"
        resolution = Resolution(
            scrubbed.rcode,
            scrubbed.body,
            is_authentic=bool(response.flags & messages.AD),
            upstream=upstream.name,
            extended_error=error,
            reason=upstream.reason,
            targets=scrubbed.targets,
            drops_private=trust.drops_private,
        )
        self._keep(question, Cached(resolution, now, now + scrubbed.ttl))
        return resolution

    def _trust_in(self, upstream: Upstream, question: Question) -> Trust:
        """Return how far a server is trusted with a list's questions."""
        apex = question.apex
        is_first = self._lists.get(apex, ())[:1] == (upstream,)
        trust = self._trusts.get((apex, is_first))
        if trust is None:
            settings = self._settings
            trust = self._trusts[apex, is_first] = Trust(
                self._is_ours,
                MAX_NEGATIVE if is_first else min(MAX_NEGATIVE, settings.ttl),
                settings.ttl,
                settings.rebind_protection and apex is None,
            )
        return trust

    def _drops_private(self, question: Question) -> bool:
        """Return whether private addresses are dropped from answers to a question."""
        settings = self._settings
        return (
            settings.rebind_protection
            and question.apex is None
            and not any(names.is_below(question.name, apex) for apex in settings.rebind_allow)
        )

    def _keep(self, question: Question, cached: Cached) -> None:
        evictions = self._cache.evictions
        try:
            self._cache.put(question, cached)
            self._counters.cache_evictions += self._cache.evictions - evictions
        except MemoryError:
            self._cache.clear()
            log.warning("out of memory: the cache of upstream responses was emptied")

    def _give_up(self, question: Question, flight: Flight) -> Resolution:
        """Cache the failure; return a stale response, else SERVFAIL."""
        now = self._loop.time()
        reason = ", ".join(dict.fromkeys(flight.failures)) or self._why_no_server(question)
        error = flight.error or (NO_REACHABLE_AUTHORITY, reason[:MAX_ERROR_TEXT])
        self._cache.put_failure(question, error, now)
        stale = self._cache.stale(question, now)
        if stale is not None:
            return stale.given_out(now, reason)
        source = "upstream" if flight.failures else "policy"
        return Resolution(messages.SERVFAIL, source=source, extended_error=error, reason=reason)

    def _why_no_server(self, question: Question) -> str:
        if names.is_single_label(question.name) and self._lists.get(question.apex):
            return "every upstream forwards single labels back to this server"
        return "no upstream configured"


def _settle(future: asyncio.Future[Resolution], resolution: Resolution) -> None:
    """Set the result of a future, unless it was cancelled."""
    if not future.done():
        future.set_result(resolution)


def _replaced(
    servers: Iterable[UpstreamServer], system: tuple[UpstreamServer, ...]
) -> tuple[UpstreamServer, ...]:
    """Replace `system` by the system's servers, and keep each server once."""
    listed = [found for s in servers for found in (system if s == SYSTEM else (s,))]
    return tuple(dict.fromkeys(listed))


def _last_resort(upstream: Upstream) -> tuple[bool, float]:
    """Sort servers that are down; one with an invalid certificate cannot be used."""
    return upstream.health.is_distrusted, upstream.health.silent_since


def _scrubbed_by(settings: UpstreamSettings) -> tuple[object, ...]:
    """Return what decides how much of a response is cached, see `_trust`."""
    return (
        settings.rebind_protection,
        settings.rebind_allow,
        settings.ttl,
        settings.suffixes,
    )
