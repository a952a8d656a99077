"""The command line: arguments, output and exit status of each subcommand.

Exit status: 0 success; 1 failure (an address is in use, `check` found an error, the server is
not healthy); 2 invalid usage or settings; 3 no running server answers at `--url`.  Each command
imports only what it needs, so that all of them start quickly.
"""

import errno
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from containerdns.commands.usage import Port, UnknownCommand, Word, WrongUsage, source_of
from containerdns.errors import (
    BadSettings,
    ContainerDNSError,
    QuestionRefused,
    ServerUnreachable,
)

if TYPE_CHECKING:
    from containerdns.commands.http_client import Server
    from containerdns.config.groups import Settings
    from containerdns.config.settings import Option

EXIT_FAILED = 1
EXIT_SETTINGS = 2
EXIT_UNREACHABLE = 3

WRITE_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)  # of standard output
DEFAULT_URL = "http://127.0.0.1:8080"
RECONNECT_AFTER = 1.0  # seconds

TARGETS = (
    *("systemd-resolved", "networkmanager", "dnsmasq", "unbound", "openvpn"),
    *("wireguard", "tailscale", "headscale", "macos", "windows", "docker", "pihole", "adguard"),
    *("openwrt", "bind", "resolv.conf"),
)
COMPLETION = """\
\b
Shell completion, for the shell's startup file (bash; zsh likewise):
  eval "$(_CONTAINERDNS_COMPLETE=bash_source containerdns)"
For fish:
  _CONTAINERDNS_COMPLETE=fish_source containerdns | source
"""


class _Commands(click.Group):
    """The subcommands; a `ContainerDNSError` becomes one line and an exit status."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that was typed."""
        if not (args[0].startswith("-") or self.get_command(ctx, args[0]) or ctx.resilient_parsing):
            raise UnknownCommand(args[0], ctx, list(self.commands))
        return super().resolve_command(ctx, args)

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """Parse what precedes the subcommand."""
        try:
            return super().make_context(*args, **kwargs)
        except click.exceptions.NoArgsIsHelpError:
            raise
        except click.UsageError as fault:
            raise WrongUsage(fault) from None

    def invoke(self, ctx: click.Context) -> Any:
        """Parse the subcommand's own arguments, and run it."""
        try:
            return super().invoke(ctx)
        except click.UsageError as fault:
            raise WrongUsage(fault) from None
        except OSError as fault:
            if fault.errno not in WRITE_ERRORS:
                raise
            click.echo(f"containerdns: cannot write: {fault.strerror}", err=True)
            ctx.exit(EXIT_FAILED)
        except ContainerDNSError as fault:
            click.echo(f"containerdns: {fault}", err=True)
            match fault:
                case BadSettings() | QuestionRefused():
                    ctx.exit(EXIT_SETTINGS)
                case ServerUnreachable():
                    ctx.exit(EXIT_UNREACHABLE)
                case _:
                    ctx.exit(EXIT_FAILED)


class _WithSettings(click.Command):
    """A command that takes every option in `settings.OPTIONS`, imported when needed."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Return its own parameters and one for each option."""
        from containerdns.config.settings import OPTIONS

        if not any(parameter.name == OPTIONS[0].parameter for parameter in self.params):
            self.params += [_flag(option) for option in OPTIONS]
        return super().get_params(ctx)


def _flag(option: "Option") -> click.Option:
    flag = f"{option.flag}/--no-{option.key}" if option.is_switch else option.flag
    default = option.default_text or ", ".join(option.default) or "none"
    repeatable = " May be given several times." if option.is_repeatable else ""
    return click.Option(
        [flag, option.parameter],
        default=None,
        multiple=option.is_repeatable,
        metavar=option.metavar or None,
        type=bool if option.is_switch else str,
        help=f"{option.meaning}{repeatable}  [{option.variable}; default: {default}]",
    )


def _config_option(command: Callable[..., None]) -> Callable[..., None]:
    return click.option(
        "--config",
        envvar="CONTAINERDNS_CONFIG",
        metavar="FILE",
        callback=_as_file,
        help="A TOML file whose keys are the options without the leading hyphens."
        "  [CONTAINERDNS_CONFIG]",
    )(command)


def _as_file(
    _context: click.Context, _parameter: click.Parameter, value: str | None
) -> Path | None:
    """Convert the value of `--config`; an empty one would become the current directory."""
    if value == "":
        raise BadSettings("--config", value, "a readable file")
    return None if value is None else Path(value)


def _url_option(command: Callable[..., None]) -> Callable[..., None]:
    return click.option(
        "--url",
        envvar="CONTAINERDNS_URL",
        default=DEFAULT_URL,
        metavar="URL",
        help=f"HTTP address of the running server.  [CONTAINERDNS_URL; default: {DEFAULT_URL}]",
    )(command)


def _format_option(*choices: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    return click.option(
        "--format", "form", type=Word(choices), default=choices[0], help="Output format."
    )


@click.group(
    cls=_Commands, epilog=COMPLETION, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.version_option(package_name="containerdns", message="containerdns %(version)s")
def main() -> None:
    """Containers by name: a Docker-aware authoritative DNS server.

    Exit status: 0 success; 1 failure; 2 invalid usage or settings; 3 no running server
    answers at --url.
    """


@main.command(cls=_WithSettings)
@_config_option
def serve(config: Path | None, **flags: Any) -> None:
    """Run the server in the foreground.

    Every option is also an environment variable and a key of the TOML file. Flags override the
    environment, which overrides the file. SIGHUP reads them again, SIGTERM stops the server.
    """
    load = _loader(config, flags)
    settings = load()
    _warn_of_unknown_variables()
    from containerdns import app

    app.serve(settings, load)


@main.command(short_help="Print the zone of a running server.")
@_url_option
@_format_option("table", "text", "json")
@click.option(
    "--domain", metavar="NAME", help="Print only this zone: a domain, or . for bare names."
)
@click.option("--name", metavar="NAME", help="Print only this name.")
@click.option("--type", "rtype", metavar="TYPE", help="Records of one type, A or TXT, a row each.")
@click.option("--all", "is_whole", is_flag=True, help="A row for each record, with its rule.")
@click.option("--watch", is_flag=True, help="Continue with a line for each change of a container.")
def zone(
    url: str, form: str, domain: str | None, name: str | None, rtype: str | None, **how: bool
) -> None:
    """Print the zone of a running server, a row for each container.

    Exit status 1 if there is nothing to print.
    """
    from containerdns.commands import terminal

    if rtype is not None:
        _check_type(rtype)
    server = _server(url)
    query = {"domain": domain, "name": name}
    if form == "text":
        lines = terminal.master_file(server.text("/zone", query), rtype)
        click.echo("".join(lines), nl=False)
        is_found = any(map(terminal.is_record, lines))
    else:
        document = server.json("/zone", query)
        document["records"] = terminal.records(document, rtype)
        if form == "json":
            _echo_json(document)
        else:
            shown = terminal.zone(document, is_whole=how["is_whole"], rtype=rtype, name=name)
            _show(shown)
        has_rows = form == "json" or how["is_whole"] or rtype
        is_found = bool(document["records"] if has_rows else terminal.container_rows(document))
    if how["watch"]:
        _watch(server, form, name)
    elif not is_found:
        click.echo("containerdns: nothing found", err=True)
        sys.exit(EXIT_FAILED)


def _check_type(rtype: str) -> None:
    from containerdns.core.protocol.messages import type_number

    if type_number(rtype) is None:
        raise BadSettings("--type", rtype, "a record type, such as A or TXT")


def _watch(server: "Server", form: str, name: str | None) -> None:
    """Show the changes of containers as they come; those of one name, if one is given."""
    from containerdns.commands import terminal

    def show(change: dict[str, Any]) -> None:
        if terminal.is_about(name, change["container"], *change["names"]):
            _echo_json(change) if form == "json" else terminal.show(terminal.change_line(change))

    _follow(server, show, "/changes")


@main.command(short_help="Explain how a name is resolved, and why.")
@click.argument("name")
@click.argument("qtype", metavar="[TYPE]", required=False)
@click.option("--client", metavar="IP", help="Address of the client; default: this machine.")
@click.option(
    "--search",
    multiple=True,
    metavar="DOMAIN",
    help="A domain in the client's search list; repeatable.",
)
@_url_option
@_format_option("text", "json")
def explain(name: str, search: tuple[str, ...], url: str, form: str, **asked: str | None) -> None:
    """Explain how a name is resolved: each query that a client sends, in order, and why.

    NAME may be an address, a URL or host:port, also in letters beyond ASCII.
    """
    from containerdns.core.protocol import typed_names

    typed = typed_names.for_url(name)
    query = [("name", typed.host), ("type", asked["qtype"]), ("client", asked["client"])]
    document = _server(url).json("/explain", [*query, *(("search", domain) for domain in search)])
    if typed.remark:
        document["remarks"] = [typed.remark, *document.get("remarks", ())]
    if form == "json":
        _echo_json(document)
        return
    from containerdns.commands import terminal

    _show(terminal.explanation(document))


@main.command(cls=_WithSettings, short_help="Validate configuration and Docker connection.")
@_config_option
@_format_option("text", "json")
def check(config: Path | None, form: str, **flags: Any) -> None:
    """Validate configuration and Docker connection, print what would be served, and exit.

    Exit status 1 if anything found is an error.
    """
    from containerdns.commands import check as checking
    from containerdns.commands import terminal

    settings = _loader(config, flags)()
    logging.disable()  # the findings include what would be logged
    try:
        report = checking.check(settings, os.environ)
    finally:
        logging.disable(logging.NOTSET)
    if form == "json":
        _echo_json(report.document())
    else:
        _show(terminal.check(report.document()))
    sys.exit(EXIT_FAILED if report.errors else 0)


@main.command(short_help="Print the last queries of a running server.")
@click.option("--follow", "-f", is_flag=True, help="Continue with new ones.")
@_url_option
@_format_option("table", "json")
def queries(follow: bool, url: str, form: str) -> None:
    """Print the last queries of a running server; with --follow, also new ones.

    Clients outside --allow-history see only their own queries.
    """
    from containerdns.commands import terminal

    server = _server(url)
    past = server.json("/queries")
    if not follow:
        if form == "json":
            _echo_json(past)
        else:
            _show(terminal.queries(past["queries"]))
        return
    show = _echo_json if form == "json" else lambda q: terminal.show(terminal.query_line(q))
    for query in past["queries"]:
        show(query)
    _follow(server, show)


@main.command(short_help="Print the last changes of containers.")
@click.option("--follow", "-f", is_flag=True, help="Continue with new ones.")
@_url_option
@_format_option("text", "json")
def changes(follow: bool, url: str, form: str) -> None:
    """Print the last changes of containers; with --follow, also new ones.

    Each has the addresses before and after, and how long the name had no answer.
    """
    from containerdns.commands import terminal

    server = _server(url)
    past = server.json("/changes")
    if form == "json" and not follow:
        _echo_json(past)
        return
    show = _echo_json if form == "json" else lambda c: terminal.show(terminal.change_line(c))
    for change in past["changes"]:
        show(change)
    if not past["changes"]:
        click.echo("containerdns: no container has changed yet", err=True)
    if follow:
        _follow(server, show, "/changes")


@main.command("client-config", short_help="Print what makes a client or resolver ask this server.")
@click.argument("target", type=Word(TARGETS))
@click.option(
    "--server",
    "servers",
    multiple=True,
    metavar="IP",
    help="Address of this server, as clients reach it.",
)
@click.option(
    "--port", type=Port(), help="Port of this server; default: the one it listens on, or 53."
)
@click.option(
    "--domain",
    "domains",
    multiple=True,
    metavar="NAME",
    help="Domain that this server is authoritative for.",
)
@click.option(
    "--search-domain",
    "search_domains",
    multiple=True,
    metavar="NAME",
    help="Domain in which container names are answered as well.",
)
@_config_option
@_url_option
@_format_option("text", "json")
def client_config(target: str, config: Path | None, url: str, form: str, **given: Any) -> None:
    """Print the configuration that makes a client or another resolver use this server.

    Values that are not given come from the running server, or else from the settings.
    """
    from containerdns.commands import client_config
    from containerdns.config import client_targets

    ours = client_config.find_ours(client_config.Given(**given), _server(url), _loader(config, {}))
    snippet = client_targets.write(target, ours)
    if form == "json":
        _echo_json(snippet.document(target, ours))
        return
    click.echo(snippet.text(), nl=False)
    if not snippet.has_comments:
        click.echo("\n".join(snippet.remarks), err=True)


@main.command(short_help="Exit with status 0 if a running server is ready.")
@_config_option
@click.option(
    "--url",
    envvar="CONTAINERDNS_URL",
    metavar="URL",
    help="HTTP address of the server; default: from --http.",
)
@click.option(
    "--dns",
    envvar="CONTAINERDNS_DNS",
    metavar="ADDR:PORT",
    help="DNS address of the server; default: the one it reports.",
)
@_format_option("text", "json")
def healthcheck(config: Path | None, url: str | None, dns: str | None, form: str) -> None:
    """Exit with status 0 if a running server is ready and answers a DNS query, else with 1."""
    from containerdns.commands import healthcheck

    settings = _loader(config, {})()
    is_healthy, reason = healthcheck.check(settings, url if url is None else _checked(url), dns)
    if form == "json":
        _echo_json({"healthy": is_healthy, "reason": reason})
    else:
        click.echo(reason, err=not is_healthy)
    sys.exit(0 if is_healthy else EXIT_FAILED)


@main.command()
@_format_option("text", "json")
def version(form: str) -> None:
    """Print the version."""
    number = metadata.version("containerdns")
    if form == "json":
        _echo_json({"version": number, "python": sys.version.split()[0]})
    else:
        click.echo(f"containerdns {number}")


def _loader(config: Path | None, flags: Mapping[str, Any]) -> Callable[[], "Settings"]:
    """Return a function that loads the settings, now and at each SIGHUP."""
    from containerdns.config.settings import OPTIONS, load

    given = {
        option.key: flags[option.parameter]
        for option in OPTIONS
        if flags.get(option.parameter) not in (None, ())
    }
    return lambda: load(given, os.environ, config)


def _warn_of_unknown_variables() -> None:
    from containerdns.config.settings import unknown_variables

    for variable in unknown_variables(os.environ):
        click.echo(f"containerdns: {variable}: ignored, no option has this name", err=True)


def _server(url: str) -> "Server":
    from containerdns.commands.http_client import Server

    return Server(_checked(url))


def _checked(url: str) -> str:
    """Return the URL if it is valid.

    Raises:
        BadSettings: It is not.
    """
    from containerdns.config.values import web_url

    try:
        return web_url(url)
    except ValueError:
        named = source_of("url", "--url", "CONTAINERDNS_URL")
        raise BadSettings(named, url, f"http://HOST[:PORT], such as {DEFAULT_URL}") from None


def _follow(server: "Server", show: Callable[[Any], None], path: str = "/queries") -> None:
    """Show the events of a stream until interrupted, reconnecting when the server restarts.

    Why it cannot be reached is printed once, not at each attempt.
    """
    reported = ""
    try:
        while True:
            try:
                for query in server.events(path):
                    show(query)
                    reported = ""
                reported = ""
            except ServerUnreachable as fault:
                if str(fault) != reported:
                    click.echo(f"containerdns: {fault}; retrying", err=True)
                reported = str(fault)
            time.sleep(RECONNECT_AFTER)
    except KeyboardInterrupt:
        return


def _show(lines: Iterable[str]) -> None:
    from containerdns.commands import terminal

    for line in lines:
        terminal.show(line)


def _echo_json(document: Any) -> None:
    click.echo(json.dumps(document, ensure_ascii=False))
