"""The few calls of etcd that a fleet needs, through its JSON gateway (etcd 3.4 and newer).

Keys and values are text here, base64 on the way.  Every call goes to the first member that
answers.  aiohttp carries it, as the Engine's calls: the gRPC clients for Python bring compiled
code of tens of megabytes, and block or need threads.
"""

import asyncio
import contextlib
import json
from base64 import b64decode, b64encode
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import aiohttp

from containerdns.config.files import ENCODING, tls_context
from containerdns.errors import FleetRefused, FleetUnavailable
from containerdns.tasks.turns import turns

MAX_CALL, MIN_CALL = 3.0, 1.0  # seconds
MAX_KEYS: Final = 1000  # of one answer to `list`, which etcd makes in some 10 ms
MEMBER_AT_FAULT: Final = 500  # status from which on another member may answer
MAX_LINE: Final = 64 << 20  # octets of one message of a watch: the first may have all changes
MAY_NOT_WRITE: Final = ("permission denied", "space exceeded", "request is too large")
OLD_TOKEN: Final = (  # expired, or from before a change of users; etcd 3.4, 3.5, 3.6
    "invalid auth token",
    "revision in header is old",
    "revision of auth store is old",
)
CREDENTIALS: Final = "user"  # the file of USER:PASSWORD beside the certificates


class Value(NamedTuple):
    """A key, and its value.

    Attributes:
        key: With the prefix.
        value: Text; None if the key was deleted.
        lease: The lease that it goes with; 0 without one.
        revision: Of its last change.
        is_new: That change created it.
    """

    key: str
    value: str | None
    lease: int = 0
    revision: int = 0
    is_new: bool = False


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
    MAX_OCTETS = 500_000  # of these together; etcd allows 1.5 MiB by default

    def __init__(self, urls: Sequence[str], tls: Path | None, timeout: float = MAX_CALL) -> None:
        """Initialise without connecting.

        Args:
            urls: "etcd://HOST:PORT" or "etcds://HOST:PORT" of each member.
            tls: A directory with ca.pem, perhaps cert.pem and key.pem, and perhaps USER:PASSWORD
                in `user`.
            timeout: Seconds for a call, within 1 and 3.
        """
        self._timeout = min(max(timeout, MIN_CALL), MAX_CALL)
        self._members = [
            f"http{'s' if url.startswith('etcds:') else ''}://{url.partition('://')[2]}"
            for url in urls
        ]
        self._tls = tls
        self._session: aiohttp.ClientSession | None = None
        self._token = ""
        self.local_address = ""  # ours, towards the member that answered last
        self.revision = 0  # of the cluster, as of its last response

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

    async def put(self, key: str, value: str, lease: int) -> int:
        """Set a key, for as long as a lease lives; return the revision."""
        fields = {"key": _encoded(key), "value": _encoded(value), "lease": lease}
        return _revision_in(await self._call("/v3/kv/put", fields))

    async def get(self, key: str) -> Value | None:
        """Return a key with its value; None if there is none."""
        found = await self._call("/v3/kv/range", {"key": _encoded(key)})
        return next((_value(kv) for kv in found.get("kvs", ())), None)

    async def time_to_live(self, lease: int) -> int:
        """Return the seconds that a lease has left; -1 if it has ended."""
        return int((await self._call("/v3/lease/timetolive", {"ID": lease})).get("TTL", -1))

    async def write(self, values: Mapping[str, str | None], lease: int) -> int:
        """Set keys, and delete those without a value, in one step; return its revision.

        At most `MAX_BATCH` keys, and `MAX_OCTETS` of values.

        A single key does without a transaction, which takes etcd a fifth longer.
        """
        if len(values) == 1:
            [(key, value)] = values.items()
            return await (self.delete(key) if value is None else self.put(key, value, lease))
        steps: list[dict[str, Any]] = []
        for key, value in values.items():
            if value is None:
                steps.append({"request_delete_range": {"key": _encoded(key)}})
            else:
                put = {"key": _encoded(key), "value": _encoded(value), "lease": lease}
                steps.append({"request_put": put})
        return _revision_in(await self._call("/v3/kv/txn", {"success": steps}))

    async def put_again(self, key: str, value: str, lease: int) -> int:
        """Set a key that goes with a lease; return the revision, or 0 if it does not go with it."""
        put = {"key": _encoded(key), "value": _encoded(value), "lease": lease}
        compare = {"target": "LEASE", "key": _encoded(key), "lease": str(lease)}
        fields = {"compare": [compare], "success": [{"request_put": put}]}
        done = await self._call("/v3/kv/txn", fields)
        return _revision_in(done) if done.get("succeeded") else 0

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

    async def delete(self, key: str) -> int:
        """Delete a key; return the revision."""
        return _revision_in(await self._call("/v3/kv/deleterange", {"key": _encoded(key)}))

    async def differs(self, prefix: str, revision: int, count: int) -> bool:
        """Return whether keys below a prefix changed after a revision, or are not as many."""
        newer = {**_range(prefix), "min_mod_revision": str(revision + 1), "limit": 1}
        if (await self._call("/v3/kv/range", {**newer, "keys_only": True})).get("kvs"):
            return True
        found = await self._call("/v3/kv/range", {**_range(prefix), "count_only": True})
        return int(found.get("count", 0)) != count

    async def list(self, prefix: str) -> Listing:
        """Return all keys below a prefix, as they were at one revision."""
        fields = {**_range(prefix), "limit": MAX_KEYS}
        values: list[Value] = []
        revision, cluster, has_more = 0, "", True
        while has_more:
            found = await self._call("/v3/kv/range", fields)
            revision = revision or int(found["header"]["revision"])
            cluster = str(found["header"].get("cluster_id", ""))
            kvs = found.get("kvs", ())
            for kv in kvs:
                values.append(_value(kv))
                await turns().offer("the fleet")
            has_more = bool(found.get("more")) and bool(kvs)
            if has_more:
                last = b64encode(b64decode(kvs[-1]["key"]) + b"\0").decode()
                fields = {**fields, "key": last, "revision": revision}
        return Listing(tuple(values), revision, cluster)

    async def watch(self, prefix: str, revision: int, silence: float) -> AsyncIterator[Changes]:
        """Yield the changes below a prefix, from a revision on.

        Args:
            prefix: Of keys.
            revision: The first one that is wanted.
            silence: Seconds after which a sign of life is due; the server sends one (progress
                notification) only every ten minutes, so that `Changes` are empty then.
        """
        create = {**_range(prefix), "start_revision": revision, "progress_notify": True}
        async with contextlib.AsyncExitStack() as stack:
            try:
                async with asyncio.timeout(self._timeout):
                    opened = self._opened("/v3/watch", {"create_request": create})
                    response = await stack.enter_async_context(opened)
            except TimeoutError as error:
                self._ask_last(self._members[0])
                raise FleetUnavailable("etcd, or a proxy before it, begins no watch") from error
            member, lines = self._members[0], _Lines(response)
            while True:
                line = await lines.next(silence)
                if self._members[0] != member:  # a stuck one sends nothing
                    raise FleetUnavailable("the member that was followed does not answer")
                yield Changes((), 0) if line is None else _changes(line)

    async def _call(self, path: str, fields: dict[str, Any]) -> dict[str, Any]:
        try:
            async with asyncio.timeout(self._timeout), self._opened(path, fields) as response:
                document = json.loads(await response.read())
        except TimeoutError as error:
            self._ask_last(self._members[0])  # a slow one
            raise FleetUnavailable("no answer from etcd") from error
        except (aiohttp.ClientError, ValueError) as error:
            raise FleetUnavailable(f"etcd: {error}") from error
        if not isinstance(document, dict):
            raise FleetUnavailable("etcd sent no JSON object")
        self.revision = _revision_in(document) or self.revision
        return document

    @contextlib.asynccontextmanager
    async def _opened(
        self, path: str, fields: dict[str, Any]
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send a request to the first member that takes it; that one is asked first next time."""
        failure = "no member"
        for member in list(self._members):
            try:
                response, refusal = await self._ask(member, path, fields)
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                failure = f"{member.partition('://')[2]}: {_text(error)}"
                self._ask_last(member)
                continue
            if refusal and response.status >= MEMBER_AT_FAULT:
                failure = f"{member.partition('://')[2]}: {refusal}"
                self._ask_last(member)
                continue
            if refusal:
                is_refused = any(text in refusal for text in MAY_NOT_WRITE)
                raise (FleetRefused if is_refused else FleetUnavailable)(f"etcd: {refusal}")
            try:
                yield response
            finally:
                response.close()
            return
        raise FleetUnavailable(f"etcd cannot be reached: {failure}")

    async def _ask(
        self, member: str, path: str, fields: dict[str, Any]
    ) -> tuple[aiohttp.ClientResponse, str]:
        """Send a request; return the response, and why it was refused ("" if it was not).

        A request that is refused for its token was not carried out, and is sent once more.
        """
        for is_last in (False, True):
            await self._authenticate(member)
            token = self._token
            response = await self._post(member, path, fields)
            refusal = await _refusal_in(response)
            if is_last or not token or not any(text in refusal for text in OLD_TOKEN):
                break
            if self._token == token:  # else another call has got a new one
                self._token = ""
        return response, refusal

    def _ask_last(self, member: str) -> None:
        self._members.remove(member)
        self._members.append(member)

    async def _post(self, member: str, path: str, fields: dict[str, Any]) -> aiohttp.ClientResponse:
        if self._session is None:
            context = True if self._tls is None else tls_context(self._tls, needs_all=False)
            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._timeout),
                connector=aiohttp.TCPConnector(limit=0, ssl=context),
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
        try:
            text = (self._tls / CREDENTIALS).read_text(encoding=ENCODING)
        except UnicodeDecodeError as error:
            raise FleetUnavailable(f"the file {CREDENTIALS} of --fleet-tls: {error}") from error
        name, _, password = text.strip().partition(":")
        fields = {"name": name, "password": password}
        response = await self._post(member, "/v3/auth/authenticate", fields)
        if refusal := await _refusal_in(response):
            raise FleetUnavailable(f"etcd: {refusal}")
        try:
            self._token = str(json.loads(await response.read())["token"])
        except (ValueError, KeyError, TypeError) as error:
            raise FleetUnavailable("etcd sent no token") from error


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
    revision, is_new = int(kv.get("mod_revision", 0)), kv.get("version") == "1"
    return Value(key, value, int(kv.get("lease", 0)), revision, is_new)


def _revision_in(document: dict[str, Any]) -> int:
    """Return the revision of the cluster that a response shows; 0 if it shows none."""
    header = document.get("header") or document.get("result", {}).get("header") or {}
    return int(header.get("revision", 0))


class _Lines:
    """The messages of a stream, one a line."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._content = response.content
        self._whole: deque[bytes] = deque()
        self._rest: list[bytes] = []
        self._octets = 0  # of the rest

    async def next(self, silence: float) -> bytes | None:
        """Return the next message; None after some seconds without one."""
        while not self._whole:
            try:
                async with asyncio.timeout(silence):
                    octets = await self._content.readany()
            except TimeoutError:
                return None
            except (aiohttp.ClientError, OSError) as error:
                raise FleetUnavailable(f"etcd: {_text(error)}") from error
            if not octets:
                raise FleetUnavailable("etcd ended the watch")
            self._take(octets)
        return self._whole.popleft()

    def _take(self, octets: bytes) -> None:
        if b"\n" not in octets:
            self._rest.append(octets)
            self._octets += len(octets)
            if self._octets > MAX_LINE:
                raise FleetUnavailable("etcd sent a message that is too long")
            return
        *lines, rest = b"".join((*self._rest, octets)).split(b"\n")
        self._whole.extend(line for line in lines if line)
        self._rest, self._octets = [rest], len(rest)


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


async def _refusal_in(response: aiohttp.ClientResponse) -> str:
    """Return why a request was refused, and read that; "" if it was not."""
    if response.status == 200:
        return ""
    body = await response.read()
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
