"""A public name in the packet cache is what the upstream cache would return, at every moment."""

from hypothesis import given, settings
from hypothesis import strategies as st

from containerdns.core.counters import Counters
from containerdns.core.protocol import messages
from containerdns.core.protocol.messages import RR
from containerdns.core.protocol.packet_cache import PacketCache
from containerdns.core.upstream.forwarding import Resolution
from containerdns.core.upstream.questions import question_of
from containerdns.core.upstream.upstream_cache import Cache, Cached
from tests.core.protocol.test_respond import NOW, PEER, VIEW, forwarded, query, responder

QUERY = query("www.example.net.")
SINCE = 1000.0


@settings(max_examples=200, deadline=None)
@given(
    st.tuples(st.integers(1, 700), st.integers(1, 700)),
    st.lists(st.floats(0.0, 70.0) | st.sampled_from((0.0, 0.5, 1.0, 5.0, 30.0)), max_size=30),
)
def test_ready_made_response_has_the_ttls_of_the_cached_one(
    ttls: tuple[int, int], pauses: list[float]
) -> None:
    made = responder()
    forward = forwarded(made, QUERY)
    question = question_of(forward)
    owner = forward.query.question[:-4]
    body = messages.encode(
        owner,
        [RR(owner, messages.A, messages.IN, ttl, bytes((192, 0, 2, ttl & 255))) for ttl in ttls],
    )
    cache, kept = Cache(8), PacketCache(Counters())
    cached = Cached(Resolution(0, body, upstream="u"), SINCE, SINCE + min(ttls))
    cache.put(question, cached)
    now = SINCE

    def renew() -> float:
        found = cache.renewed(question, SINCE, now)
        return 0.0 if found is None else found.fresh_for(now)

    for pause in pauses:
        now += pause
        ready = kept.answer(kept.table(VIEW), QUERY, now)
        fresh = cache.fresh(question, now)
        if fresh is None:
            assert ready is None
            return
        resolution = fresh.given_out(now)._replace(renewal=renew)
        reply = made.finish(forward, resolution, PEER, NOW)
        if ready is None:
            kept.keep(VIEW, QUERY, reply, now)
        else:
            assert ready[0] == reply.octets
