"""The few calls of etcd that a fleet needs, through its JSON gateway (etcd 3.4 and newer).

Keys and values are text here, base64 on the way.  Every call goes to the first member that
answers.  aiohttp carries it, as the Engine's calls: the gRPC clients for Python bring compiled
code of tens of megabytes, and block or need threads.
"""

import asyncio
import contextlib
import json
import ssl
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import aiohttp

from containerdns.errors import FleetUnavailable

CALL_TIMEOUT: Final = 3.0  # seconds
MAX_LINE: Final = 64 << 20  # octets of one message of a watch: the first may have all changes
CREDENTIALS: Final = "user"  # the file of USER:PASSWORD beside the certificates


class Value(NamedTuple):
    """A key, and its value.

    Attributes:
        key: With the prefix.
        value: Text; None if the key was deleted.
        lease: The lease that it goes with; 0 without one.
        revision: Of its last change.
    """

    key: str
    value: str | None
    lease: int = 0
    revision: int = 0


class Listing(NamedTuple):
    """All keys below a prefix at one revision."""

    values: tuple[Value, ...]
    revision: int
    cluster: str


class Changes(NamedTuple):
    """What one message of a watch tells."""

    values: tuple[Value, ...]
    revision: int


class Etcd:
    """One etcd cluster.

    Every method raises FleetUnavailable if no member answers, or the cluster refuses.
    """

    MAX_BATCH = 64  # keys of one transaction; etcd allows 128 by default

    def __init__(self, urls: Sequence[str], tls: Path | None) -> None:
        """Take where the members are.

        Args:
            urls: "etcd://HOST:PORT" or "etcds://HOST:PORT" of each member.
            tls: A directory with ca.pem, perhaps cert.pem and key.pem, and perhaps USER:PASSWORD
                in `user`.
        """
        self._members = [
            f"http{'s' if url.startswith('etcds:') else ''}://{url.partition('://')[2]}"
            for url in urls
        ]
        self._tls = tls
        self._session: aiohttp.ClientSession | None = None
        self._token = ""
        self.local_address = ""  # ours, towards the member that answered last

    async def close(self) -> None:
        """Close all connections; a later call opens others."""
        session, self._session = self._session, None
        self._token = ""
        if session is not None:
            await session.close()

    async def grant(self, seconds: int) -> int:
        """Get a lease."""
        return int((await self._call("/v3/lease/grant", {"TTL": seconds}))["ID"])

    async def renew(self, lease: int) -> bool:
        """Renew a lease; return whether it still exists."""
        found = await self._call("/v3/lease/keepalive", {"ID": lease})
        return int(found.get("result", {}).get("TTL", 0)) > 0

    async def revoke(self, lease: int) -> None:
        """End a lease, and delete all keys that go with it."""
        await self._call("/v3/lease/revoke", {"ID": lease})

    async def put(self, key: str, value: str, lease: int) -> None:
        """Set a key, for as long as a lease lives."""
        fields = {"key": _encoded(key), "value": _encoded(value), "lease": lease}
        await self._call("/v3/kv/put", fields)

    async def get(self, key: str) -> Value | None:
        """Return a key with its value; None if there is none."""
        found = await self._call("/v3/kv/range", {"key": _encoded(key)})
        return next((_value(kv) for kv in found.get("kvs", ())), None)

    async def time_to_live(self, lease: int) -> int:
        """Return the seconds that a lease has left; -1 if it has ended."""
        return int((await self._call("/v3/lease/timetolive", {"ID": lease})).get("TTL", -1))

    async def write(self, values: Mapping[str, str | None], lease: int) -> None:
        """Set keys, and delete those without a value, in one step; at most `MAX_BATCH`."""
        steps: list[dict[str, Any]] = []
        for key, value in values.items():
            if value is None:
                steps.append({"request_delete_range": {"key": _encoded(key)}})
            else:
                put = {"key": _encoded(key), "value": _encoded(value), "lease": lease}
                steps.append({"request_put": put})
        await self._call("/v3/kv/txn", {"success": steps})

    async def replace(self, key: str, value: str, lease: int, revision: int) -> bool:
        """Set a key unless it has changed since a revision; return whether it had not."""
        put = {"key": _encoded(key), "value": _encoded(value), "lease": lease}
        compare = {"target": "MOD", "key": _encoded(key), "mod_revision": str(revision)}
        fields = {"compare": [compare], "success": [{"request_put": put}]}
        return bool((await self._call("/v3/kv/txn", fields)).get("succeeded"))

    async def create(self, key: str, value: str, lease: int) -> bool:
        """Set a key unless it exists; return whether it did not."""
        put = {"key": _encoded(key), "value": _encoded(value), "lease": lease}
        compare = {"target": "CREATE", "key": _encoded(key), "create_revision": "0"}
        fields = {"compare": [compare], "success": [{"request_put": put}]}
        return bool((await self._call("/v3/kv/txn", fields)).get("succeeded"))

    async def delete(self, key: str) -> None:
        """Delete a key."""
        await self._call("/v3/kv/deleterange", {"key": _encoded(key)})

    async def list(self, prefix: str) -> Listing:
        """Return all keys below a prefix."""
        found = await self._call("/v3/kv/range", _range(prefix))
        header = found["header"]
        values = tuple(_value(kv) for kv in found.get("kvs", ()))
        return Listing(values, int(header["revision"]), str(header.get("cluster_id", "")))

    async def watch(self, prefix: str, revision: int, silence: float) -> AsyncIterator[Changes]:
        """Yield the changes below a prefix, from a revision on.

        Args:
            prefix: Of keys.
            revision: The first one that is wanted.
            silence: Seconds after which a sign of life is due; the server sends one (progress
                notification) only every ten minutes, so that `Changes` are empty then.
        """
        create = {**_range(prefix), "start_revision": revision, "progress_notify": True}
        async with self._opened("/v3/watch", {"create_request": create}) as response:
            lines = _lines(response)
            while True:
                try:
                    async with asyncio.timeout(silence):
                        line = await anext(lines, None)
                except TimeoutError:
                    yield Changes((), 0)
                    continue
                if line is None:
                    raise FleetUnavailable("etcd ended the watch")
                yield _changes(line)

    async def _call(self, path: str, fields: dict[str, Any]) -> dict[str, Any]:
        try:
            async with asyncio.timeout(CALL_TIMEOUT), self._opened(path, fields) as response:
                document = json.loads(await response.read())
        except TimeoutError as error:
            self._members.append(self._members.pop(0))  # a slow one is asked last
            raise FleetUnavailable("no answer from etcd") from error
        except (aiohttp.ClientError, ValueError) as error:
            raise FleetUnavailable(f"etcd: {error}") from error
        if not isinstance(document, dict):
            raise FleetUnavailable("etcd sent no JSON object")
        return document

    @contextlib.asynccontextmanager
    async def _opened(
        self, path: str, fields: dict[str, Any]
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send a request to the first member that takes it; that one is asked first next time."""
        failure = "no member"
        for member in list(self._members):
            try:
                await self._authenticate(member)
                response = await self._post(member, path, fields)
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                failure = f"{member.partition('://')[2]}: {_text(error)}"
                self._members.remove(member)
                self._members.append(member)
                continue
            try:
                if response.status != 200:
                    raise FleetUnavailable(f"etcd: {_refusal(await response.read())}")
                yield response
            finally:
                response.close()
            return
        raise FleetUnavailable(f"etcd cannot be reached: {failure}")

    async def _post(self, member: str, path: str, fields: dict[str, Any]) -> aiohttp.ClientResponse:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CALL_TIMEOUT),
                connector=aiohttp.TCPConnector(limit=0, ssl=self._ssl_context()),
            )
        headers = {"Authorization": self._token} if self._token else {}
        response = await self._session.post(member + path, json=fields, headers=headers)
        if response.connection is not None and response.connection.transport is not None:
            name = response.connection.transport.get_extra_info("sockname")
            self.local_address = str(name[0]) if name else self.local_address
        return response

    async def _authenticate(self, member: str) -> None:
        if self._token or self._tls is None or not (self._tls / CREDENTIALS).is_file():
            return
        name, _, password = (self._tls / CREDENTIALS).read_text().strip().partition(":")
        fields = {"name": name, "password": password}
        response = await self._post(member, "/v3/auth/authenticate", fields)
        body = await response.read()
        if response.status != 200:
            raise FleetUnavailable(f"etcd: {_refusal(body)}")
        self._token = str(json.loads(body)["token"])

    def _ssl_context(self) -> ssl.SSLContext | bool:
        if self._tls is None or not (self._tls / "ca.pem").is_file():
            return True
        context = ssl.create_default_context(cafile=self._tls / "ca.pem")
        if (self._tls / "cert.pem").is_file():
            context.load_cert_chain(self._tls / "cert.pem", self._tls / "key.pem")
        return context


def _encoded(text: str) -> str:
    return b64encode(text.encode()).decode()


def _range(prefix: str) -> dict[str, Any]:
    """Return the fields of a range of all keys with a prefix."""
    last = prefix.encode()
    end = last[:-1] + bytes((last[-1] + 1,))
    return {"key": _encoded(prefix), "range_end": b64encode(end).decode()}


def _value(kv: dict[str, Any], *, is_deleted: bool = False) -> Value:
    key = b64decode(kv["key"]).decode(errors="replace")
    value = None if is_deleted else b64decode(kv.get("value", "")).decode(errors="replace")
    return Value(key, value, int(kv.get("lease", 0)), int(kv.get("mod_revision", 0)))


async def _lines(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """Yield the messages of a stream, one a line."""
    rest = b""
    try:
        async for octets in response.content.iter_any():
            *lines, rest = (rest + octets).split(b"\n")
            if len(rest) > MAX_LINE:
                raise FleetUnavailable("etcd sent a message that is too long")
            for line in lines:
                yield line
    except (aiohttp.ClientError, OSError) as error:
        raise FleetUnavailable(f"etcd: {_text(error)}") from error


def _changes(line: bytes) -> Changes:
    try:
        document = json.loads(line)
        if "error" in document:
            raise FleetUnavailable(f"etcd: {document['error'].get('message', 'refused')}")
        result = document["result"]
        if result.get("canceled"):
            reason = result.get("cancel_reason") or f"compacted {result.get('compact_revision')}"
            raise FleetUnavailable(f"etcd ended the watch: {reason}")
        values = tuple(
            _value(event["kv"], is_deleted=event.get("type") == "DELETE")
            for event in result.get("events", ())
        )
        return Changes(values, int(result["header"]["revision"]))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise FleetUnavailable("etcd sent a message that cannot be read") from error


def _refusal(body: bytes) -> str:
    try:
        document = json.loads(body)
        text = str(document.get("message") or document.get("error"))
    except (ValueError, AttributeError):
        text = body[:200].decode(errors="replace")
    if "space exceeded" in text:
        return f"{text}: its disk quota is used up (NOSPACE); compact and defragment it"
    return text


def _text(error: Exception) -> str:
    return str(getattr(error, "os_error", None) or error) or type(error).__name__
