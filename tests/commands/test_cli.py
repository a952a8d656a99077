"""The command line: what each subcommand prints, and its exit status.

A small HTTP server stands for the running one where its exact words matter.
"""

import contextlib
import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

import click
import pytest
from click.testing import CliRunner, Result

from containerdns.commands import cli, terminal
from containerdns.commands.cli import main
from containerdns.commands.http_client import Server
from containerdns.config.settings import OPTIONS
from containerdns.core.protocol import explanation_text
from containerdns.errors import ServerUnreachable
from tests.engine.running import free_port

ZONE: dict[str, Any] = {
    "serial": 1795515600,
    "engines": [
        {"url": "unix:///run/a.sock", "connected": True, "last_sync": "2026-11-24T08:00:00Z"},
        {"url": "tcp://b.example:2376", "connected": False, "last_sync": None},
    ],
    "zones": [{"apex": "docker.", "serial": 1795515600}],
    "records": [
        {"name": "web.docker.", "type": "A", "ttl": 5, "data": "172.18.0.2", "container": "web",
         "id": "0123456789ab", "network": "frontend", "rule": "container name"},
        {"name": "evil.docker.", "type": "TXT", "ttl": 5, "data": "\x1b[31mred\r\n",
         "container": "evil", "id": "1123456789ab", "network": None, "rule": "label"},
    ],
    "skipped": [
        {"container": "hidden", "id": "ba98", "reason": "label containerdns.enable=false"}
    ],
    "remembered": [{"name": "old", "until": "2026-11-25T08:00:00Z"}],
}  # fmt: skip

EXPLAINED: dict[str, Any] = {
    "queries": [
        {"name": "web.corp.example.", "type": "A", "decision": "upstream", "rule": "not ours",
         "rcode": "NXDOMAIN", "ttl": 5, "upstream": "1.1.1.1", "records": [], "reason": "asked"},
        {"name": "web.", "type": "AAAA", "decision": "zone", "rule": "bare container name",
         "rcode": "NOERROR", "ttl": 1, "upstream": None, "records": [], "reason": "no IPv6"},
        {"name": "web.", "type": "A", "decision": "zone", "rule": "bare container name",
         "rcode": "NOERROR", "ttl": 5, "upstream": None, "reason": "the container web is running",
         "records": [{"type": "A", "data": "172.18.0.2", "container": "web", "network": "f"}]},
    ]
}  # fmt: skip

QUERIES: dict[str, Any] = {
    "queries": [
        {"time": "2026-11-24T08:00:00.123Z", "client": "10.8.0.2", "proto": "udp", "name": "web.",
         "type": "A", "rcode": "NOERROR", "source": "zone", "upstream": None, "ms": 0.02},
        {"time": "2026-11-24T08:00:01.123Z", "client": "10.8.0.3", "proto": "tcp",
         "name": "nowhere.example.", "type": "AAAA", "rcode": "NXDOMAIN", "source": "upstream",
         "upstream": "1.1.1.1", "ms": 12.5},
    ]
}  # fmt: skip


class StandIn:
    """Answers each path with one body, and notes what was asked.

    Attributes:
        bodies: Per path, the status, the content type and the body.
        asked: Path, parameters and Accept header of each request.
    """

    def __init__(self, host: str = "127.0.0.1") -> None:
        self.bodies: dict[str, tuple[int, str, bytes]] = {}
        self.asked: list[tuple[str, list[tuple[str, str]], str]] = []
        stand_in = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                url = urlsplit(self.path)
                stand_in.asked.append((url.path, parse_qsl(url.query), self.headers["Accept"]))
                status, content_type, body = stand_in.bodies[url.path]
                self.send_response(status)
                self.send_header("Content-Type", content_type)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name
                pass

        self._server = ThreadingHTTPServer((host, 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self.url = f"http://{host}:{self._server.server_address[1]}"

    def gives(
        self, path: str, document: Any, status: int = 200, kind: str = "application/json"
    ) -> None:
        """Answer a path with a document, or with bytes as they are."""
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        self.bodies[path] = (status, kind, body)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def running() -> Iterator[StandIn]:
    with StandIn() as stand_in:
        yield stand_in


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Run a command in this process, in an environment that has nothing of ours."""
    for option in OPTIONS:
        monkeypatch.delenv(option.variable, raising=False)
    for variable in ("CONTAINERDNS_URL", "CONTAINERDNS_CONFIG", "CONTAINERDNS_DNS", "DOCKER_HOST"):
        monkeypatch.delenv(variable, raising=False)

    def run(*arguments: str, **environ: str) -> Result:
        result = CliRunner().invoke(main, list(arguments), env=environ)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return run


Run = Callable[..., Result]


# -- zone ----------------------------------------------------------------------------------


def test_zone_is_a_table_with_what_was_skipped_and_remembered(running: StandIn, run: Run) -> None:
    running.gives("/zone", ZONE)
    result = run("zone", "--url", running.url)
    assert result.exit_code == 0
    for text in ("web.docker.", "172.18.0.2", "1795515600"):
        assert text in result.stdout
    assert "hidden" in result.stdout
    assert "label containerdns.enable=false" in result.stdout
    assert "old" in result.stdout
    assert re.search(r"tcp://b\.example:2376: not connected", result.stdout)


def test_what_a_container_chose_cannot_steer_the_terminal(running: StandIn, run: Run) -> None:
    running.gives("/zone", ZONE)
    out = run("zone", "--all", "--url", running.url).stdout
    assert "\x1b" not in out
    assert "\r" not in out
    assert "?[31mred??" in out


def test_zone_as_json_is_the_document(running: StandIn, run: Run) -> None:
    running.gives("/zone", ZONE)
    result = run("zone", "--url", running.url, "--format", "json")
    assert json.loads(result.stdout) == ZONE
    assert running.asked == [("/zone", [], "application/json")]


def test_zone_as_text_is_the_master_file(running: StandIn, run: Run) -> None:
    master = b"docker. 5 IN SOA ns.docker. . 1 2 3 4 5\n"
    running.gives("/zone", master, kind="text/plain")
    result = run("zone", "--url", running.url, "--format", "text")
    assert result.stdout.encode() == master
    assert running.asked == [("/zone", [], "text/plain")]


def test_zone_as_text_has_the_records_of_a_type(running: StandIn, run: Run) -> None:
    head, srv = (
        "; zone docker.\n$ORIGIN docker.\n\n",
        "_80._tcp.web.docker.\t5\tIN\tSRV\t0 0 80 web\n",
    )
    others = 'web.docker.\t5\tIN\tA\t192.0.2.1\nweb.docker.\t5\tIN\tTXT\t"SRV\tSRV"\n'
    running.gives("/zone", f"{head}{others}{srv}".encode(), kind="text/plain")
    result = run("zone", "--url", running.url, "--format", "text", "--type", "srv")
    assert result.stdout == head + srv


def test_zone_asks_for_one_domain_or_name(running: StandIn, run: Run) -> None:
    running.gives("/zone", ZONE)
    run("zone", "--url", running.url, "--domain", ".", "--name", "web")
    assert running.asked[0][1] == [("domain", "."), ("name", "web")]


# -- explain ----------------------------------------------------------------------------------


def test_explanation_is_a_line_a_query_with_why_and_what_next(running: StandIn, run: Run) -> None:
    running.gives("/explain", EXPLAINED)
    result = run("explain", "web", "--url", running.url)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert [line for line in lines if re.match(r"\d\. ", line)] == [
        "1. web.corp.example. A: NXDOMAIN (upstream of 1.1.1.1)",
        "2. web. AAAA: NODATA (zone)",
        "3. web. A: 172.18.0.2, TTL 5 (zone)",
    ]
    assert "   why:  bare container name: the container web is running" in lines
    assert "   next: the client has its answer and stops" in lines
    assert "   next: the client goes on" in lines


def test_explanation_is_the_text_of_http_with_colours(
    running: StandIn, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One text form: what differs is escape sequences alone."""
    running.gives("/explain", EXPLAINED)
    monkeypatch.setattr(terminal, "wants_colour", lambda: True)
    shown = run("explain", "web", "--url", running.url).stdout
    assert "\x1b" in shown
    assert click.unstyle(shown).splitlines() == list(explanation_text.lines(EXPLAINED))


def test_explanation_shows_alike_types_once_and_what_is_not_sent(
    running: StandIn, run: Run
) -> None:
    query = {**EXPLAINED["queries"][0], "sent": True}
    unsent = {**EXPLAINED["queries"][2], "sent": False}
    queries = [query, {**query, "type": "AAAA"}, unsent]
    remark = "only the host of http://web/ is looked up: web"
    running.gives("/explain", {"queries": queries, "remarks": [remark]})
    lines = run("explain", "http://web/", "--url", running.url).stdout.splitlines()
    assert lines[0] == remark
    assert lines[1] == "1. web.corp.example. A, AAAA: NXDOMAIN (upstream of 1.1.1.1)"
    assert lines[-3] == "2. web. A: not sent, as an earlier answer ended the search"


def test_explain_takes_what_people_paste(running: StandIn, run: Run) -> None:
    """A long URL and letters beyond ASCII, neither of which a name can have."""
    running.gives("/explain", EXPLAINED)
    for typed in (f"http://web/{'a' * 300}", "bücher"):
        run("explain", typed, "--url", running.url)
    assert [dict(parameters)["name"] for _, parameters, _ in running.asked] == [
        "web",
        "xn--bcher-kva",
    ]


def test_explain_asks_as_the_client_would(running: StandIn, run: Run) -> None:
    running.gives("/explain", EXPLAINED)
    arguments = ("--client", "10.8.0.2", "--search", "localdomain", "--search", "corp.example")
    result = run("explain", "web", "AAAA", *arguments, "--format", "json", "--url", running.url)
    assert json.loads(result.stdout) == EXPLAINED
    assert running.asked[0][:2] == (
        "/explain",
        [("name", "web"), ("type", "AAAA"), ("client", "10.8.0.2"),
         ("search", "localdomain"), ("search", "corp.example")],
    )  # fmt: skip


# -- queries ----------------------------------------------------------------------------------


def test_queries_are_a_table(running: StandIn, run: Run) -> None:
    running.gives("/queries", QUERIES)
    lines = run("queries", "--url", running.url).stdout.splitlines()
    assert lines[0].split() == [
        "TIME", "CLIENT", "NAME", "TYPE", "RCODE", "SOURCE", "UPSTREAM", "MS",
    ]  # fmt: skip
    assert lines[2].split()[1:] == [
        "10.8.0.3", "nowhere.example.", "AAAA", "NXDOMAIN", "upstream", "1.1.1.1", "12.5",
    ]  # fmt: skip


def test_queries_as_json_are_the_document(running: StandIn, run: Run) -> None:
    running.gives("/queries", QUERIES)
    result = run("queries", "--format", "json", "--url", running.url)
    assert json.loads(result.stdout) == QUERIES


def test_followed_queries_come_as_they_are_asked(running: StandIn) -> None:
    """The past ones first, then those of the stream; an interrupt ends it without a fault."""
    first, second = QUERIES["queries"]
    stream = f": hello\n\nid: 7\ndata: {json.dumps(second)}\n\n".encode()
    running.gives("/queries", {"queries": [first]})
    command = [sys.executable, "-m", "containerdns", "queries", "--follow", "--format", "json"]
    with subprocess.Popen(
        [*command, "--url", running.url], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as following:
        assert following.stdout is not None
        lines = [following.stdout.readline()]
        running.gives("/queries", stream, kind="text/event-stream")
        lines.append(following.stdout.readline())
        following.terminate()
        following.communicate()
    assert [json.loads(line) for line in lines] == [first, second]
    assert running.asked[-1][2] == "text/event-stream"


def test_outage_of_a_followed_server_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It may last for hours, with an attempt a second."""
    down, up, ended = ServerUnreachable("http://x", "refused"), None, KeyboardInterrupt()
    attempts = iter([down, down, down, up, down, down, ended])

    class Restarting(Server):
        def events(self, path: str) -> Iterator[dict[str, Any]]:
            if fault := next(attempts):
                raise fault
            yield {"name": "web."}

    monkeypatch.setattr(cli, "RECONNECT_AFTER", 0.0)
    cli._follow(Restarting("http://x"), print)
    assert capsys.readouterr().err == f"containerdns: {down}; retrying\n" * 2


# -- a server that cannot be asked ------------------------------------------------------------

NOBODY = "http://127.0.0.1:1"  # a port that nobody listens on
ASKING = [("zone",), ("explain", "web"), ("queries",)]


@pytest.mark.parametrize("command", ASKING, ids=lambda command: command[0])
def test_nobody_at_the_url_is_exit_3_with_one_line(run: Run, command: tuple[str, ...]) -> None:
    result = run(*command, "--url", NOBODY)
    assert result.exit_code == 3
    assert result.stdout == ""
    assert result.stderr.startswith(
        "containerdns: cannot ask http://127.0.0.1:1: connection refused"
    )
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("command", ASKING, ids=lambda command: command[0])
def test_refusal_is_told_in_the_server_s_words(
    running: StandIn, run: Run, command: tuple[str, ...]
) -> None:
    """RFC 9457: the detail of a problem is for people."""
    for path in ("/zone", "/explain", "/queries"):
        running.gives(path, {"title": "Forbidden", "detail": "10.0.0.9 may not ask"}, status=403)
    result = run(*command, "--url", running.url)
    assert result.exit_code == 3
    assert result.stderr == f"containerdns: cannot ask {running.url}: 10.0.0.9 may not ask\n"


@pytest.mark.parametrize("status", [400, 404])
def test_question_that_makes_no_sense_is_exit_2(running: StandIn, run: Run, status: int) -> None:
    detail = "domain='nowhere': expected a zone of this server; /zone lists them"
    running.gives("/zone", {"detail": detail}, status=status, kind="application/problem+json")
    result = run("zone", "--domain", "nowhere", "--url", running.url)
    assert (result.exit_code, result.stderr) == (2, f"containerdns: {detail}\n")
    running.gives("/zone", b"<html>no such page", status=status)
    assert run("zone", "--url", running.url).exit_code == 3


@pytest.mark.parametrize(
    "body", [b"<html>", b"[]", b"\xff", b""], ids=["HTML", "array", "bytes", "nothing"]
)
@pytest.mark.parametrize("command", ASKING, ids=lambda command: command[0])
def test_another_server_at_the_url_is_told(
    running: StandIn, run: Run, command: tuple[str, ...], body: bytes
) -> None:
    for path in ("/zone", "/explain", "/queries"):
        running.gives(path, body)
    result = run(*command, "--url", running.url)
    assert result.exit_code == 3
    assert "what answers is not containerdns" in result.stderr


def test_page_of_another_server_is_not_printed_as_the_zone(running: StandIn, run: Run) -> None:
    running.gives("/zone", b"<html>It works!", kind="text/html")
    result = run("zone", "--format", "text", "--url", running.url)
    assert (result.exit_code, result.stdout) == (3, "")
    assert "what answers is not containerdns" in result.stderr


def test_url_comes_from_the_environment(running: StandIn, run: Run) -> None:
    running.gives("/zone", ZONE)
    assert run("zone", CONTAINERDNS_URL=running.url).exit_code == 0


@pytest.mark.parametrize("url", ["127.0.0.1:8080", "ftp://x", "http://", "http://a b/", "http:x"])
@pytest.mark.parametrize(
    "command", [*ASKING, ("client-config", "docker"), ("healthcheck",)], ids=lambda c: str(c[0])
)
def test_url_that_is_none_is_exit_2_with_one_line(
    run: Run, command: tuple[str, ...], url: str
) -> None:
    for named, result in (
        ("--url", run(*command, "--url", url)),
        ("CONTAINERDNS_URL", run(*command, CONTAINERDNS_URL=url)),
    ):
        assert result.exit_code == 2
        assert result.stderr.startswith(f"containerdns: {named}={url!r}: expected http://HOST")
        assert result.stderr.count("\n") == 1


def test_proxy_of_the_environment_is_not_asked(running: StandIn, run: Run) -> None:
    running.gives("/zone", ZONE)
    assert run("zone", "--url", running.url, http_proxy="http://127.0.0.1:1").exit_code == 0


# -- settings -------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["serve", "check"])
def test_wrong_setting_is_exit_2_with_one_line(run: Run, command: str) -> None:
    result = run(command, "--ttl", "5s")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr == "containerdns: --ttl='5s': expected seconds, 0 to 3600\n"


@pytest.mark.parametrize("command", ["serve", "check", "healthcheck", "client-config docker"])
def test_wrong_variable_is_exit_2_by_its_name(run: Run, command: str) -> None:
    result = run(*command.split(), CONTAINERDNS_TTL="5s", CONTAINERDNS_URL=NOBODY)
    assert (result.exit_code, result.stderr) == (
        2, "containerdns: CONTAINERDNS_TTL='5s': expected seconds, 0 to 3600\n",
    )  # fmt: skip


def test_wrong_file_is_exit_2_by_its_name(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text("ttll = 5\n")
    for result in (
        run("check", "--config", str(file)),
        run("check", CONTAINERDNS_CONFIG=str(file)),
    ):
        assert result.exit_code == 2
        assert result.stderr.startswith(f"containerdns: {file}")
        assert "ttll" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("serve --ttll 5", "--ttll: expected an option of `containerdns serve`, perhaps --ttl;"),
        ("serve --ttl", "--ttl: expected seconds, 0 to 3600, found no value"),
        ("serve --wildcard=yes", "--wildcard: expected no value, or --no-wildcard"),
        ("serve extra", "got unexpected extra argument (extra); `containerdns serve --help` "),
        ("serv", "serv: expected a command, perhaps serve: "),
        ("--bogus zone", "--bogus: expected an option of `containerdns`; "),
        ("zone --format xml", "--format='xml': expected table, text or json"),
        ("zone --type FOO", "--type='FOO': expected a record type, such as A or TXT"),
        ("zone --bogus", "--bogus: expected an option of `containerdns zone`; "),
        ("zone --name", "--name: expected a value, found no value"),
        ("queries --format text", "--format='text': expected table or json"),
        ("explain", "NAME is missing: expected a value"),
        ("explain a b c", "got unexpected extra argument (c); "),
        ("check --bogus", "--bogus: expected an option of `containerdns check`; "),
        ("client-config", "TARGET is missing: expected one of systemd-resolved, "),
        ("client-config djbdns", "TARGET='djbdns': expected systemd-resolved, networkmanager, "),
        ("client-config docker --port 99999", "--port='99999': expected a port, 1 to 65535"),
        ("client-config docker --domain a,b", "--domain='a,b': expected a domain name "),
        ("healthcheck --format yaml", "--format='yaml': expected text or json"),
        ("version now", "got unexpected extra argument (now); "),
    ],
)
def test_wrong_usage_is_exit_2_with_one_line(run: Run, arguments: str, told: str) -> None:
    result = run(*arguments.split())
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith(f"containerdns: {told}")
    assert result.stderr.count("\n") == 1


def test_every_option_is_a_flag_of_serve_and_told_by_its_help(run: Run) -> None:
    text = run("serve", "--help").stdout
    for option in OPTIONS:
        assert re.search(rf"{option.flag}\b", text), option.key
        assert option.variable in text.replace("\n", ""), option.key
        assert not option.is_switch or f"--no-{option.key}" in text, option.key


@pytest.mark.parametrize(
    "command",
    ["serve", "zone", "explain", "check", "queries", "client-config", "healthcheck", "version"],
)
def test_command_has_a_help(run: Run, command: str) -> None:
    assert re.search(rf"^  {command} +\S", run("--help").stdout, re.MULTILINE)
    assert run(command, "--help").exit_code == 0


# -- small ones -----------------------------------------------------------------------------------


def test_version_is_told_and_does_not_load_the_server() -> None:
    code = (
        "import sys; sys.argv = ['containerdns', 'version'];"
        "from containerdns.commands.cli import main; main(standalone_mode=False);"
        "assert not {'aiohttp', 'dnslib', 'containerdns.app'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert re.fullmatch(r"containerdns \S+\n", done.stdout)


def test_module_is_the_command() -> None:
    command = [sys.executable, "-m", "containerdns", "version", "--format", "json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert set(json.loads(done.stdout)) >= {"version"}


# -- for people, on a terminal ----------------------------------------------------------------


def on_a_terminal(command: list[str], **environ: str) -> str:
    """Run a command with a terminal as its output; all that it wrote."""
    ours, theirs = pty.openpty()
    environment = os.environ | environ
    with subprocess.Popen(
        [sys.executable, "-m", "containerdns", *command], stdout=theirs, env=environment
    ) as running_command:
        os.close(theirs)
        written = b""
        with contextlib.suppress(OSError):  # EIO is the end (pty(7))
            while octets := os.read(ours, 65536):
                written += octets
        os.close(ours)
        running_command.wait(60)
    return written.decode()


def test_table_fits_the_terminal(running: StandIn) -> None:
    running.gives("/zone", ZONE)
    command = ["zone", "--all", "--url", running.url]
    narrow = on_a_terminal(command, COLUMNS="70", NO_COLOR="1").splitlines()
    rows = [line for line in narrow if line.startswith(("NAME", "web", "evil"))]
    assert len(rows) == 3
    assert all(len(line.rstrip()) <= 70 for line in rows)
    assert any("…" in line for line in rows)
    assert "…" not in on_a_terminal(command, COLUMNS="200", NO_COLOR="1")


def test_colour_is_for_terminals_whose_owner_wants_it(running: StandIn, run: Run) -> None:
    """https://no-color.org: set and not empty."""
    running.gives("/zone", ZONE)
    command = ["zone", "--url", running.url]
    assert "\x1b[32mconnected" in on_a_terminal(command, NO_COLOR="")
    assert "\x1b" not in on_a_terminal(command, NO_COLOR="1")
    assert "\x1b" not in run(*command).stdout


def test_watched_zone_is_followed_by_a_line_for_each_change(running: StandIn) -> None:
    running.gives("/zone", ZONE)
    change = {"time": "2026-11-24T08:00:00.123Z", "container": "web", "names": ["web", "www"],
              "text": "~ web 172.18.0.2 -> 172.18.0.3, 0.8 s without"}  # fmt: skip
    other = {**change, "container": "other", "names": ["other"], "text": "+ other"}
    stream = "".join(f"data: {json.dumps(one)}\n\n" for one in (other, change))
    running.gives("/changes", stream.encode(), kind="text/event-stream")
    command = [sys.executable, "-m", "containerdns", "zone", "--watch", "--name", "web.docker"]
    with subprocess.Popen(
        [*command, "--url", running.url], stdout=subprocess.PIPE, text=True
    ) as watching:
        assert watching.stdout is not None
        stamped = next(line for line in watching.stdout if line.startswith("2026"))
        watching.send_signal(signal.SIGINT)
        assert watching.wait(60) == 0
    assert stamped.rstrip() == f"{change['time']}  {change['text']}"


def test_zone_is_a_row_for_each_container_with_its_further_names_folded(
    running: StandIn, run: Run
) -> None:
    def record(name: str, data: str, rule: str, **more: str) -> dict[str, Any]:
        return {**ZONE["records"][0], "name": name, "data": data, "rule": rule, **more}

    names = [f"alias{number}.docker." for number in range(6)]
    records = [
        record("0123456789ab.docker.", "172.18.0.2", "container id"),
        *(record(name, "172.18.0.2", "network alias") for name in names),
        record("web.docker.", "172.18.0.2", "container name"),
        record("web.docker.", "fd00::2", "container name", type="AAAA"),
        record("web.", "172.18.0.2", "bare container name"),
    ]
    loss = {"owner": "web", "loser": "api", "winner": "web", "rule": "network alias"}
    fault = {"container": "evil", "text": "bad..name", "reason": "empty label"}
    running.gives("/zone", {**ZONE, "records": records, "losses": [loss], "faults": [fault]})
    out = run("zone", "--url", running.url).stdout
    (row,) = [line for line in out.splitlines() if "172.18.0.2" in line]
    cells = ["web", "web.docker.", "172.18.0.2, fd00::2", "alias0, alias1, alias2, alias3 +3"]
    assert re.split(r" {2,}", row) == cells
    assert re.search(r"web +api +web +network alias", out)
    assert re.search(r"evil +bad\.\.name +empty label", out)


def test_zone_of_one_name_shows_nothing_about_others(running: StandIn, run: Run) -> None:
    fault = {"container": "bad", "id": "1", "text": "a b", "reason": "a space", "of": "name"}
    running.gives("/zone", {**ZONE, "records": [], "faults": [fault]})
    assert "hidden" in run("zone", "--url", running.url).stdout
    shown = run("zone", "--name", "bad.docker", "--url", running.url).stdout
    assert "a space" in shown
    assert not {"hidden", "old", "ADDRESSES"}.intersection(shown.split())


def test_full_disk_is_exit_1_with_one_line(running: StandIn) -> None:
    running.gives("/zone", ZONE)
    command = [sys.executable, "-m", "containerdns", "zone", "--url", running.url]
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (
        1,
        "containerdns: cannot write: No space left on device\n",
    )


def test_closed_standard_output_is_no_fault(running: StandIn) -> None:
    running.gives("/zone", ZONE)
    line = f"{sys.executable} -m containerdns zone --url {running.url} >&-"
    ended = subprocess.run(line, shell=True, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.parametrize(
    ("arguments", "rows"),
    [
        (("--all",), ["web.docker.", "evil.docker."]),
        (("--type", "txt"), ["evil.docker."]),
        (("--type", "A"), ["web.docker."]),
    ],
)
def test_records_of_a_zone_have_a_row_each(
    running: StandIn, run: Run, arguments: tuple[str, ...], rows: list[str]
) -> None:
    running.gives("/zone", ZONE)
    out = run("zone", *arguments, "--url", running.url).stdout
    assert [line.split()[0] for line in out.splitlines() if ".docker." in line] == rows


@pytest.mark.parametrize(
    "arguments", [(), ("--all",), ("--type", "MX"), ("--format", "json"), ("--format", "text")]
)
def test_nothing_found_is_exit_status_1(
    running: StandIn, run: Run, arguments: tuple[str, ...]
) -> None:
    is_text = "text" in arguments
    kind = "text/plain" if is_text else "application/json"
    running.gives("/zone", b"; zone docker.\n" if is_text else {**ZONE, "records": []}, kind=kind)
    result = run("zone", "--name", "nobody", *arguments, "--url", running.url)
    assert (result.exit_code, result.stderr) == (1, "containerdns: nothing found\n")


def test_what_an_upstream_will_say_is_not_known_yet(running: StandIn, run: Run) -> None:
    query = EXPLAINED["queries"][0] | {"rcode": None, "ttl": None, "reason": "not ours; 1.1.1.1"}
    running.gives("/explain", {"queries": [query]})
    assert run("explain", "web", "--url", running.url).stdout.splitlines() == [
        "1. web.corp.example. A: the upstream's answer (upstream of 1.1.1.1)",
        "   why:  not ours; 1.1.1.1",
        "   next: the client stops if there is data, else it fails",
    ]


def test_shell_completion_is_told_and_works() -> None:
    assert "_CONTAINERDNS_COMPLETE=bash_source" in CliRunner().invoke(main, ["--help"]).stdout
    environ = {"_CONTAINERDNS_COMPLETE": "bash_complete",
               "COMP_WORDS": "containerdns client-config un",
               "COMP_CWORD": "2"}  # fmt: skip
    code = "from containerdns.commands.cli import main; main(prog_name='containerdns')"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False,
        env=os.environ | environ,
    )  # fmt: skip
    assert done.stdout.strip() == "plain,unbound"


# -- serve and healthcheck, with real sockets -------------------------------------------------


def test_port_in_use_is_exit_1_with_one_line() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        command = [sys.executable, "-m", "containerdns", "serve", "--listen", address]
        done = subprocess.run(
            [*command, "--http", "off", "--docker", "unix:///nowhere/docker.sock"],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    faults = [line for line in done.stderr.splitlines() if line.startswith("containerdns: ")]
    assert len(faults) == 1
    assert faults[0].startswith(f"containerdns: cannot listen on {address}")
    assert "Traceback" not in done.stderr


@contextlib.contextmanager
def answering(rcode: int, flags: int, answers: int, host: str = "127.0.0.1") -> Iterator[str]:
    """A DNS server that answers every query alike; gives its address."""
    soa = b"\xc0\x0c\0\6\0\1\0\0\0\5\0\x16\0\0" + bytes(20)  # names: the root; numbers: 0
    stopping = threading.Event()

    def answer(serving: socket.socket) -> None:
        while not stopping.is_set():
            with contextlib.suppress(TimeoutError):
                query, client = serving.recvfrom(512)
                head = query[:2] + (0x8000 | flags | rcode).to_bytes(2, "big")
                counts = b"\0\1" + answers.to_bytes(2, "big") + bytes(4)
                serving.sendto(head + counts + query[12:] + soa * answers, client)

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as serving:
        serving.bind((host, 0))
        serving.settimeout(0.02)
        thread = threading.Thread(target=answer, args=(serving,))
        thread.start()
        yield f"{host}:{serving.getsockname()[1]}"
        stopping.set()
        thread.join()


NOERROR, SERVFAIL, REFUSED, AUTHORITATIVE = 0, 2, 5, 0x0400


@pytest.mark.parametrize(
    ("ready", "rcode", "flags", "answers", "status"),
    [
        (200, NOERROR, AUTHORITATIVE, 1, 0),
        (503, NOERROR, AUTHORITATIVE, 1, 1),
        (200, SERVFAIL, 0, 0, 1),
        (200, NOERROR, 0, 1, 1),
        (200, NOERROR, AUTHORITATIVE, 0, 1),
    ],
    ids=["healthy", "not ready", "SERVFAIL", "not authoritative", "no answer"],
)
def test_health_is_readiness_and_an_authoritative_answer(
    running: StandIn, run: Run, ready: int, rcode: int, flags: int, answers: int, status: int
) -> None:
    running.gives("/readyz", b"ready" if ready == 200 else b"not listed yet", status=ready)
    with answering(rcode, flags, answers) as address:
        result = run("healthcheck", "--url", running.url, "--dns", address)
    assert result.exit_code == status, result.output
    assert (result.stdout == "") is (status != 0)
    assert (result.stderr == "") is (status == 0)
    assert ("not listed yet" in result.stderr) is (ready != 200)


def test_health_asks_where_the_server_says_that_it_listens(running: StandIn, run: Run) -> None:
    """Its flags are not known to a HEALTHCHECK."""
    running.gives("/readyz", b"ready")
    with answering(NOERROR, AUTHORITATIVE, 1) as address:
        running.gives("/status", {"dns": [address]})
        result = run("healthcheck", "--url", running.url, "--format", "json")
    assert json.loads(result.stdout)["healthy"] is True
    assert f"DNS on {address} answers" in result.stdout


def test_health_of_a_wildcard_is_asked_for_where_http_was_reached(run: Run) -> None:
    """Of another machine, too; this one may have a DNS server of its own on that port."""
    host = "127.0.0.7"
    with StandIn(host) as running, answering(NOERROR, AUTHORITATIVE, 1, host) as address:
        running.gives("/readyz", b"ready")
        running.gives("/status", {"dns": [address.replace(host, "0.0.0.0")]})
        result = run("healthcheck", "--url", running.url)
    assert result.stdout == f"ready; DNS on {address} answers\n"


def test_health_without_http_is_that_of_dns(run: Run) -> None:
    with answering(NOERROR, AUTHORITATIVE, 1) as address:
        environ = {"CONTAINERDNS_HTTP": "off", "CONTAINERDNS_LISTEN": address}
        assert run("healthcheck", **environ).exit_code == 0
    assert run("healthcheck", **environ).exit_code == 1


def test_wrong_address_of_healthcheck_is_exit_2(run: Run) -> None:
    result = run("healthcheck", "--dns", "localhost", "--url", NOBODY)
    assert result.exit_code == 2
    assert result.stderr.startswith("containerdns: --dns='localhost': expected an address")


def test_health_is_not_spoilt_by_an_allow_without_loopback(running: StandIn, run: Run) -> None:
    """`--allow 10.8.0.0/24` refuses a HEALTHCHECK on both doors: it does what it was told."""
    running.gives("/readyz", {"title": "Forbidden", "detail": "outside --allow"}, status=403)
    running.gives("/status", {"title": "Forbidden", "detail": "outside --allow"}, status=403)
    with answering(REFUSED, 0, 0) as address:
        result = run("healthcheck", "--url", running.url, CONTAINERDNS_LISTEN=address)
    assert result.exit_code == 0, result.stderr


def test_refusal_is_a_fault_where_http_lets_us_in(running: StandIn, run: Run) -> None:
    """`--allow` holds for both: another server has the port."""
    running.gives("/readyz", b"ready")
    with answering(REFUSED, 0, 0) as address:
        result = run("healthcheck", "--url", running.url, "--dns", address)
    assert result.exit_code == 1


# -- check ------------------------------------------------------------------------------------


def test_check_without_docker_is_exit_1_and_says_what_to_do(run: Run, tmp_path: Path) -> None:
    nowhere = f"unix://{tmp_path}/docker.sock"
    options = ("--docker", nowhere, "--listen", f"127.0.0.1:{free_port()}", "--upstream", "")
    result = run("check", *options, "--format", "json")
    findings = json.loads(result.stdout)["findings"]
    assert result.exit_code == 1
    [error] = [finding for finding in findings if finding["level"] == "error"]
    assert nowhere in error["text"]
    assert error["remedy"]
    told = run("check", *options)
    assert told.exit_code == 1
    assert f"error: {error['text']}\n    {error['remedy']}\n" in told.stdout


def test_check_warns_of_a_misspelt_variable(run: Run, tmp_path: Path) -> None:
    options = ("--docker", f"unix://{tmp_path}/docker.sock", "--upstream", "")
    result = run("check", *options, CONTAINERDNS_TTLL="5")
    assert "warning: CONTAINERDNS_TTLL: ignored, no option has this name" in result.stdout


def test_help_of_each_command_is_whole(run: Run) -> None:
    """Click cuts what is too long for a line, and puts dots in its place."""
    listed = run("--help").stdout.partition("Commands:")[2].partition("Shell completion")[0]
    assert "serve" in listed
    assert "..." not in listed


def test_empty_config_is_named_as_it_was_given(run: Run) -> None:
    """`--config "$UNSET"`; the variable, when empty, counts as unset."""
    done = run("check", "--config", "")
    assert done.exit_code == 2
    assert done.stderr == "containerdns: --config='': expected a readable file\n"
    assert run("version", CONTAINERDNS_CONFIG="").exit_code == 0
