"""The forwarder: what is not ours is asked of others, in order, once, and remembered.

Upstreams may serve different data, so that they are never raced: strictly the first
that is alive.  It never raises: at the end of its patience stands a stale response, or
SERVFAIL with a reason (RFC 8914).
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from containerdns.core import messages, names
from containerdns.core.cache import Cache, Cached
from containerdns.core.counters import Counters
from containerdns.core.forwarding import Forward, Resolution
from containerdns.core.health import SILENCES
from containerdns.core.messages import Response
from containerdns.core.questions import Question, question_of
from containerdns.core.scrub import NEGATIVE_LONGEST, Trust, is_referral, scrub
from containerdns.settings import Settings, UpstreamServer
from containerdns.upstream.exchanges import Inbox, Trouble
from containerdns.upstream.upstreams import Attempt, Upstream

PATIENCE = 4.7  # seconds; the client has its SERVFAIL within 5, contract section 5
STALE_PATIENCE = 1.8  # seconds until a stale response is given, RFC 8767 section 5
STREAM_PATIENCE = 2.0  # seconds for a question that moved to TCP
FLIGHTS_MOST = 1024  # questions in flight, contract section 5
SHARE = 256  # questions that one client may have in flight

STALE_ANSWER, CACHED_ERROR, FILTERED, STALE_NXDOMAIN = 3, 13, 17, 19  # RFC 8914 section 4
NO_REACHABLE_AUTHORITY, NETWORK_ERROR = 22, 23

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class UpstreamStatus:
    """How one upstream of one list is doing.

    Attributes:
        name: As configured.
        apex: The domain of its `--forward`, None for `--upstream`.
        order: Its place in that list, from 0.
        is_healthy: Asked in its turn.
        aside_for: Seconds until it is tried again; 0 if it is not set aside.
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


@dataclass(slots=True)
class _Flight:
    """One question on its way, for all who wait.

    Attributes:
        done: What came of it; cancelled if who asked went away.
        attempts: All its sendings: a late answer is still an answer.
        failures: Why there is no answer yet, each with its server.
        error: What the first server that failed said about it.
    """

    done: asyncio.Future[Resolution]
    inbox: Inbox[Upstream]
    attempts: list[Attempt] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    error: tuple[int, str] | None = None


class Forwarder:
    """Asks the upstreams for what is not ours."""

    def __init__(
        self, settings: Settings, counters: Counters, is_ours: Callable[[str], bool]
    ) -> None:
        """Take the lists of upstreams; nothing is opened before `run`.

        Args:
            settings: `upstreams`, `forwards`, `cache_size`, `ttl` and the rebind options.
            counters: What is asked, hit and refused is counted here.
            is_ours: Tells of a canonical name whether no upstream may answer for it.
        """
        self._settings = settings
        self._counters = counters
        self._is_ours = is_ours
        self._cache = Cache(settings.cache_size)
        self._flights: dict[Question, _Flight] = {}
        self._waiting: Counter[bytes] = Counter()
        self._upstreams: dict[UpstreamServer, Upstream] = {}
        self._lists: dict[str | None, tuple[Upstream, ...]] = {}
        self._loop: asyncio.AbstractEventLoop
        self._tasks: asyncio.TaskGroup

    async def run(self) -> None:
        """Own the sockets and the tasks until cancelled."""
        self._loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as self._tasks:
            self._take_lists(self._settings)
            try:
                await self._loop.create_future()
            finally:
                for upstream in self._upstreams.values():
                    upstream.close()

    def reload(self, settings: Settings) -> None:
        """Use other settings; responses of lists that stay the same stay cached."""
        was = _servers_by_apex(self._settings)
        self._settings = settings
        self._take_lists(settings)
        for apex, servers in was.items():
            if _servers_by_apex(settings).get(apex) != servers:
                self._cache.forget_apex(apex)
        self._cache.capacity = settings.cache_size

    @property
    def cache_entries(self) -> int:
        """Responses in the cache."""
        return len(self._cache)

    def cached(self, forward: Forward) -> Resolution | None:
        """Give what needs no upstream: a fresh response, or a failure just seen."""
        question = question_of(forward)
        now = self._loop.time()
        cached = self._cache.fresh(question, now)
        if cached is None:
            self._counters.cache_misses += 1
            return None
        self._counters.cache_hits += 1
        if cached.is_wanted_again(now) and question not in self._flights:
            self._refresh(question)
        return _resolution(cached, now)

    async def resolve(self, forward: Forward) -> Resolution:
        """Ask the upstreams, or wait for who is asking them the same."""
        client = forward.client
        question = question_of(forward)
        if client and self._waiting[client] >= SHARE:
            return self._refused(f"{SHARE} questions of this client are in flight")
        if question not in self._flights and len(self._flights) >= FLIGHTS_MOST:
            return self._refused(f"{FLIGHTS_MOST} questions are in flight")
        self._waiting[client] += 1
        try:
            return await self._await(question)
        finally:
            self._waiting[client] -= 1
            if not self._waiting[client]:
                del self._waiting[client]

    def describe(self, name: str, qtype: int) -> tuple[str, str | None, float | None]:
        """Tell what would become of a question, without asking it.

        Returns:
            Which list ("--upstream", or the domain of a `--forward`), its first server
            that is alive, and the seconds that a cached response has left.
        """
        apex = self._apex_of(name)
        question = Question(name, qtype, False, False, apex)
        order = self._order(apex)
        left = self._cache.peek(question, self._loop.time())
        return apex or "--upstream", order[0].name if order else None, left

    def status(self) -> list[UpstreamStatus]:
        """How every upstream is doing, list by list, in order."""
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
            for order, upstream in enumerate(upstreams)
        ]

    def _take_lists(self, settings: Settings) -> None:
        lists = _servers_by_apex(settings)
        wanted = dict.fromkeys(server for servers in lists.values() for server in servers)
        for server in [server for server in self._upstreams if server not in wanted]:
            self._upstreams.pop(server).close()
        for server in wanted:
            if server not in self._upstreams:
                self._upstreams[server] = Upstream(
                    server, self._counters, self._loop, self._tasks.create_task
                )
        self._lists = {
            apex: tuple(self._upstreams[server] for server in servers)
            for apex, servers in lists.items()
        }

    def _apex_of(self, name: str) -> str | None:
        """The longest domain of a `--forward` at or above a name."""
        above = [apex for apex in self._lists if apex is not None and names.is_below(name, apex)]
        return max(above, key=lambda apex: len(names.labels_of_text(apex)), default=None)

    def _order(self, apex: str | None) -> tuple[Upstream, ...]:
        """Whom to ask: those alive in order, else the one silent longest ago."""
        upstreams = self._lists.get(apex, ())
        alive = tuple(upstream for upstream in upstreams if upstream.is_alive)
        if alive:
            return alive
        others = [upstream for upstream in upstreams if not upstream.is_ourselves]
        return tuple(sorted(others, key=lambda upstream: upstream.health.silent_since)[:1])

    def _refused(self, reason: str) -> Resolution:
        self._counters.forwards_refused += 1
        return Resolution(messages.REFUSED, source="policy", reason=reason)

    async def _await(self, question: Question) -> Resolution:
        """Join the flight of a question, or be the one who flies it."""
        while (flight := self._flights.get(question)) is not None:
            await asyncio.wait((flight.done,))
            if not flight.done.cancelled():
                return flight.done.result()
        stale = self._cache.stale(question, self._loop.time())
        if stale is None:
            return await self._fly(question)
        self._refresh(question)
        done = self._flights[question].done
        await asyncio.wait((done,), timeout=STALE_PATIENCE)
        if done.done() and not done.cancelled():
            return done.result()
        return _resolution(stale, self._loop.time())

    def _refresh(self, question: Question) -> None:
        """Ask in the background."""
        self._begin(question)
        self._tasks.create_task(self._finish_alone(question))

    async def _finish_alone(self, question: Question) -> None:
        """Finish a flight that nobody may be waiting for, so that its faults end here."""
        try:
            await self._finish(question)
        except Exception:  # as the server does it for a client: the others must go on
            self._counters.internal_errors += 1
            log.exception("asking for %s failed", question.name)

    async def _fly(self, question: Question) -> Resolution:
        self._begin(question)
        return await self._finish(question)

    def _begin(self, question: Question) -> None:
        self._flights[question] = _Flight(self._loop.create_future(), Inbox(self._loop))

    async def _finish(self, question: Question) -> Resolution:
        """Bring a flight to its end; those who wait with us are told in any case."""
        flight = self._flights[question]
        try:
            resolution = await self._ask(question, flight)
            flight.done.set_result(resolution)
            return resolution
        finally:
            flight.done.cancel()
            del self._flights[question]
            for attempt in flight.attempts:
                attempt.forget()

    async def _ask(self, question: Question, flight: _Flight) -> Resolution:
        """Ask one server after the other until one has an answer."""
        deadline = self._loop.time() + PATIENCE
        order = self._order(question.apex)
        for number, upstream in enumerate(order):
            now = self._loop.time()
            until = now + (deadline - now) / (len(order) - number)
            is_last = number == len(order) - 1
            answer = await self._ask_one(question, flight, upstream, until, is_last)
            if answer is not None:
                return self._accept(question, *answer)
        return self._give_up(question, flight)

    async def _ask_one(
        self, question: Question, flight: _Flight, upstream: Upstream, until: float, is_last: bool
    ) -> tuple[Upstream, Response] | None:
        """Ask one server until it answers, fails or is silent too often.

        Returns:
            An answer that is final, which may be a late one of an earlier server.
        """
        for attempt in range(SILENCES):
            now = self._loop.time()
            if now >= until:
                break
            flight.attempts.append(upstream.send(question, flight.inbox))
            wake = min(now + upstream.health.timeout(attempt), until)
            while (arrival := await flight.inbox.get(wake)) is not None:
                source, outcome = arrival
                if outcome is Trouble.MOVED:
                    wake = min(self._loop.time() + STREAM_PATIENCE, until)
                elif isinstance(outcome, Response) and _is_final(outcome):
                    return source, outcome
                else:
                    self._note(flight, source, outcome)
                    if source is upstream and (isinstance(outcome, Response) or not is_last):
                        return None
            flight.failures.append(f"{upstream.name}: no answer")
            upstream.was_silent("no answer in time")
        return None

    def _note(self, flight: _Flight, source: Upstream, outcome: Response | Trouble) -> None:
        """Note why one server has no answer."""
        if isinstance(outcome, Trouble):
            flight.failures.append(f"{source.name}: {outcome.value}")
            if outcome is not Trouble.NO_SOCKETS:  # that is our fault
                source.was_silent(outcome.value)
            return
        if flight.error is None:
            flight.error = _error_of(outcome)
        text = "referral" if is_referral(outcome) else messages.rcode_text(outcome.rcode)
        source.health.last_failure = text
        flight.failures.append(f"{source.name}: {text}")

    def _accept(self, question: Question, upstream: Upstream, response: Response) -> Resolution:
        """Scrub a response, cache it, and give it out."""
        now = self._loop.time()
        is_first = self._lists.get(question.apex, ())[:1] == (upstream,)
        scrubbed = scrub(response, question, self._trust(question, is_first))
        error = _error_of(response)
        if scrubbed.lost_private:
            error = FILTERED, "private addresses dropped (--rebind-protection)"
        cached = Cached(
            scrubbed.rcode,
            scrubbed.body,
            now,
            now + scrubbed.ttl,
            bool(response.flags & messages.AD),
            upstream.name,
            error,
        )
        self._keep(question, cached)
        return Resolution(
            cached.rcode,
            cached.body,
            cached.is_authentic,
            "upstream",
            upstream.name,
            error,
            f"answered by {upstream.name}",
            min(scrubbed.ttl, 1.0),
        )

    def _trust(self, question: Question, is_first: bool) -> Trust:
        settings = self._settings
        return Trust(
            self._is_ours,
            NEGATIVE_LONGEST if is_first else min(NEGATIVE_LONGEST, settings.ttl),
            settings.ttl,
            settings.rebind_protection
            and question.apex is None
            and not any(names.is_below(question.name, apex) for apex in settings.rebind_allow),
        )

    def _keep(self, question: Question, cached: Cached) -> None:
        try:
            self._cache.put(question, cached)
        except MemoryError:
            self._cache.clear()
            log.error("out of memory: the cache of upstream responses was emptied")

    def _give_up(self, question: Question, flight: _Flight) -> Resolution:
        """Remember the failure; give a stale response, else SERVFAIL."""
        now = self._loop.time()
        reason = ", ".join(dict.fromkeys(flight.failures)) or "no upstream to ask"
        error = flight.error or (NO_REACHABLE_AUTHORITY, reason)
        if self._cache.capacity:
            self._cache.put_failure(question, error, now)
        stale = self._cache.stale(question, now)
        if stale is not None:
            return _resolution(stale, now, reason)
        source = "upstream" if flight.failures else "policy"
        return Resolution(messages.SERVFAIL, source=source, extended_error=error, reason=reason)


def _servers_by_apex(settings: Settings) -> dict[str | None, tuple[UpstreamServer, ...]]:
    return {None: settings.upstreams, **dict(settings.forwards)}


def _is_final(response: Response) -> bool:
    """Tell whether a response answers, rather than passing the question on."""
    return response.rcode in (messages.NOERROR, messages.NXDOMAIN) and not is_referral(response)


def _error_of(response: Response) -> tuple[int, str] | None:
    """The extended error of a response (RFC 8914 section 2)."""
    data = response.edns.option(messages.EDE_OPTION) if response.edns else None
    if data is None or len(data) < 2:
        return None
    return int.from_bytes(data[:2]), data[2:].decode(errors="replace")


def _resolution(cached: Cached, now: float, reason: str = "") -> Resolution:
    """Give out what is cached, as it is now."""
    error = cached.error
    if cached.rcode == messages.SERVFAIL:
        error = CACHED_ERROR, (error[1] if error else "")
        reason = f"failed less than {messages.SERVFAIL} s ago"
    elif now >= cached.expires:
        is_nxdomain = cached.rcode == messages.NXDOMAIN
        error = (STALE_NXDOMAIN if is_nxdomain else STALE_ANSWER), reason
        reason = f"stale, as no upstream answers: {reason}" if reason else "stale"
    return Resolution(
        cached.rcode,
        cached.aged(now),
        cached.is_authentic,
        "cache",
        cached.upstream,
        error,
        reason or "cached",
        cached.steady_for(now),
    )
