"""A resolver that asks us for single labels, and is our upstream: nothing goes round.

So it is with what `client-config dnsmasq` writes, in a Pi-hole that we forward to.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from containerdns.config.client_targets import Ours, write
from containerdns.core.endpoints import Endpoint
from containerdns.core.protocol import messages
from tests.engine.running import free_port
from tests.timing import assert_within, best_of_three, listens, until
from tests.upstream.fakes import upstream
from tests.upstream.forwarding import addresses, forwarder, front, question, settings
from tests.upstream.test_forwarder import WWW, denies, says

TYPES = {"NS": messages.NS, "SOA": messages.SOA, "DS": messages.DS, "DNSKEY": messages.DNSKEY}


@asynccontextmanager
async def dnsmasq(folder: Path, port: int, ours: int, public: int) -> AsyncIterator[None]:
    """Run a dnsmasq with our own snippet, and another upstream for the rest."""
    snippet = folder / "containerdns.conf"
    snippet.write_text(write("dnsmasq", Ours((Endpoint("127.0.0.1", ours),), ("docker",))).text())
    running = await asyncio.create_subprocess_exec(
        "dnsmasq", "--no-daemon", "--no-resolv", "--no-hosts", f"--conf-file={snippet}",
        f"--port={port}", "--listen-address=127.0.0.1", "--bind-interfaces",
        f"--server=127.0.0.1#{public}", stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        await until(lambda: listens("127.0.0.1", port))
        yield
    finally:
        running.terminate()
        await running.wait()


@best_of_three
@pytest.mark.parametrize("qtype", TYPES.values(), ids=TYPES)
async def test_a_single_label_that_comes_back_is_a_failure_at_once(
    qtype: int, tmp_path: Path
) -> None:
    """It took 4.7 s, and three such questions set the resolver aside."""
    ours, theirs = free_port(), free_port()
    async with (
        upstream(says("192.0.2.1")) as public,
        dnsmasq(tmp_path, theirs, ours, public.port),
        forwarder(settings(theirs)) as forward,
        front(forward, ours),
    ):
        loop = asyncio.get_running_loop()
        begun = loop.time()
        for name in ("app.", "staging-search_elasticsearch_1.", "x."):
            resolution = await forward.resolve(question(name, qtype))
            assert resolution.rcode == messages.SERVFAIL
            assert "forwards single labels back" in resolution.reason
        assert_within(loop.time() - begun, 1.0)
        assert forward.status()[0].is_healthy
        assert addresses(WWW, await forward.resolve(WWW)) == ["192.0.2.1"]


async def test_another_upstream_is_asked_for_single_labels_then(tmp_path: Path) -> None:
    ours, theirs = free_port(), free_port()
    async with (
        upstream(says("192.0.2.1")) as public,
        upstream(denies) as second,
        dnsmasq(tmp_path, theirs, ours, public.port),
        forwarder(settings(theirs, second.port)) as forward,
        front(forward, ours),
    ):
        for name in ("app.", "foo."):
            asked = question(name, messages.DS)
            assert (await forward.resolve(asked)).rcode == messages.NXDOMAIN
        assert addresses(WWW, await forward.resolve(WWW)) == ["192.0.2.1"]
        assert [name for name in second.names if "loop-" not in name] == ["app.", "foo."]


async def test_an_ordinary_upstream_is_asked_for_single_labels() -> None:
    async with upstream(denies) as fake, forwarder(settings(fake.port)) as forward:
        for name in ("app.", "foo."):
            resolution = await forward.resolve(question(name, messages.DS))
            assert resolution.rcode == messages.NXDOMAIN
        assert sum("loop-" in name for name in fake.names) == 1, "probed once, not each time"
