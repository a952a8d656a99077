"""The command line: what each subcommand takes, prints and exits with.

Exit status: 0 done; 1 it could not be done (an address is taken, a finding of `check`
is an error, the server is not healthy); 2 wrong usage or settings; 3 no running server
answers at `--url`.  Rooms are imported by the command that needs them, so that the
others start at once.
"""

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

from containerdns.commands.usage import Port, Word, WrongUsage, source_of
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

DEFAULT_URL = "http://127.0.0.1:8080"
RECONNECT_AFTER = 1.0  # seconds

TARGETS = (
    *("systemd-resolved", "networkmanager", "dnsmasq", "unbound", "openvpn"),
    *("wireguard", "tailscale", "headscale", "macos", "windows", "docker", "pihole", "adguard"),
    *("openwrt", "bind", "resolv.conf"),
)
COMPLETION = """\
\b
Completion for a shell, for its start file (bash; zsh likewise):
  eval "$(_CONTAINERDNS_COMPLETE=bash_source containerdns)"
For fish:
  _CONTAINERDNS_COMPLETE=fish_source containerdns | source
"""


class _Commands(click.Group):
    """The subcommands; a fault that we name becomes one line and an exit status."""

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """Read what stands before the subcommand."""
        try:
            return super().make_context(*args, **kwargs)
        except click.exceptions.NoArgsIsHelpError:
            raise
        except click.UsageError as fault:
            raise WrongUsage(fault) from None

    def invoke(self, ctx: click.Context) -> Any:
        """Read what stands behind the subcommand, and run it."""
        try:
            return super().invoke(ctx)
        except click.UsageError as fault:
            raise WrongUsage(fault) from None
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
    """A command that takes every option of the registry, which is read when it is needed."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Return its own options, and those of the registry."""
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
        type=click.Path(path_type=Path),
        help="A TOML file; its keys are the options without their hyphens in front."
        "  [CONTAINERDNS_CONFIG]",
    )(command)


def _url_option(command: Callable[..., None]) -> Callable[..., None]:
    return click.option(
        "--url",
        envvar="CONTAINERDNS_URL",
        default=DEFAULT_URL,
        metavar="URL",
        help=f"Where the running server's HTTP is.  [CONTAINERDNS_URL; default: {DEFAULT_URL}]",
    )(command)


def _format_option(*choices: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    return click.option(
        "--format", "form", type=Word(choices), default=choices[0], help="How to print it."
    )


@click.group(
    cls=_Commands, epilog=COMPLETION, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.version_option(package_name="containerdns", message="containerdns %(version)s")
def main() -> None:
    """Containers by name: a Docker-aware authoritative DNS server.

    Exit status: 0 done; 1 it could not be done; 2 wrong usage or settings; 3 no running
    server answers at --url.
    """


@main.command(cls=_WithSettings)
@_config_option
def serve(config: Path | None, **flags: Any) -> None:
    """Run the server in the foreground.

    Every option is also an environment variable and a key of the TOML file; flags beat
    environment beats file. SIGHUP reads environment and file again, SIGTERM stops.
    """
    load = _loader(config, flags)
    settings = load()
    _warn_of_unknown_variables()
    from containerdns import app

    app.serve(settings, load)


@main.command()
@_url_option
@_format_option("table", "text", "json")
@click.option("--domain", metavar="NAME", help="One zone only: a domain, or . for bare names.")
@click.option("--name", metavar="NAME", help="One name only.")
@click.option("--type", "rtype", metavar="TYPE", help="Records of one type, A or TXT, a row each.")
@click.option("--all", "is_whole", is_flag=True, help="A row for each record, with its rule.")
@click.option("--watch", is_flag=True, help="Go on with a line for each change of a container.")
def zone(
    url: str, form: str, domain: str | None, name: str | None, rtype: str | None, **how: bool
) -> None:
    """Print the zone of a running server, a row for each container.

    Exit status 1 if there is nothing to print.
    """
    from containerdns.commands import terminal

    server = _server(url)
    query = {"domain": domain, "name": name}
    if form == "text":
        text = server.text("/zone", query)
        click.echo(text, nl=False)
        is_found = any(line and line[0] not in ";$" for line in text.splitlines())
    else:
        document = server.json("/zone", query)
        document["records"] = terminal.records(document, rtype)
        if form == "json":
            _echo_json(document)
        else:
            _show(terminal.zone(document, is_whole=how["is_whole"], rtype=rtype))
        has_rows = form == "json" or how["is_whole"] or rtype
        is_found = bool(document["records"] if has_rows else terminal.container_rows(document))
    if how["watch"]:
        _watch(server, form, name)
    elif not is_found:
        click.echo("containerdns: nothing found", err=True)
        sys.exit(EXIT_FAILED)


def _watch(server: "Server", form: str, name: str | None) -> None:
    """Show the changes of containers as they come; those of one name, if one is given."""
    from containerdns.commands import terminal

    def show(change: dict[str, Any]) -> None:
        asked = f"{name or ''}.".lower()
        known = [change["container"], *change["names"]]
        if name is None or any(asked.startswith(f"{one.rstrip('.')}.") for one in known):
            _echo_json(change) if form == "json" else terminal.show(terminal.change_line(change))

    _follow(server, show, "/changes")


@main.command()
@click.argument("name")
@click.argument("qtype", metavar="[TYPE]", required=False)
@click.option("--client", metavar="IP", help="Who asks; default: this machine.")
@click.option("--search", multiple=True, metavar="DOMAIN", help="A domain of its search list.")
@_url_option
@_format_option("text", "json")
def explain(
    name: str, qtype: str | None, client: str | None, search: tuple[str, ...], url: str, form: str
) -> None:
    """Explain what becomes of a name: each query of a client, in order, and why.

    NAME may be an address, a URL or host:port.
    """
    query = [("name", name), ("type", qtype), ("client", client)]
    document = _server(url).json("/explain", [*query, *(("search", domain) for domain in search)])
    if form == "json":
        _echo_json(document)
        return
    from containerdns.commands import terminal

    _show(terminal.explanation(document))


@main.command(cls=_WithSettings)
@_config_option
@_format_option("text", "json")
def check(config: Path | None, form: str, **flags: Any) -> None:
    """Validate configuration and Docker connection, print what would be served, and exit.

    Exit status 1 if a finding is an error.
    """
    from containerdns.commands import check as checking
    from containerdns.commands import terminal

    settings = _loader(config, flags)()
    logging.disable()  # the findings say what would be logged
    try:
        report = checking.check(settings, os.environ)
    finally:
        logging.disable(logging.NOTSET)
    if form == "json":
        _echo_json(report.document())
    else:
        _show(terminal.check(report.document()))
    sys.exit(EXIT_FAILED if report.errors else 0)


@main.command()
@click.option("--follow", "-f", is_flag=True, help="Go on with those to come.")
@_url_option
@_format_option("table", "json")
def queries(follow: bool, url: str, form: str) -> None:
    """Print the last queries of a running server; with --follow, those to come.

    Who is outside --allow-history sees its own queries only.
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


@main.command()
@click.option("--follow", "-f", is_flag=True, help="Go on with those to come.")
@_url_option
@_format_option("text", "json")
def changes(follow: bool, url: str, form: str) -> None:
    """Print the last changes of containers; with --follow, those to come.

    Each with the addresses before and after, and the seconds in which its name had no answer.
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
    if follow:
        _follow(server, show, "/changes")


@main.command("client-config")
@click.argument("target", type=Word(TARGETS))
@click.option("--server", "servers", multiple=True, metavar="IP", help="Our address, for clients.")
@click.option("--port", type=Port(), help="Our port; default: the server's, 53.")
@click.option("--domain", "domains", multiple=True, metavar="NAME", help="Our domains.")
@click.option(
    "--search-domain",
    "search_domains",
    multiple=True,
    metavar="NAME",
    help="Domains in which container names are answered too.",
)
@_config_option
@_url_option
@_format_option("text", "json")
def client_config(target: str, config: Path | None, url: str, form: str, **given: Any) -> None:
    """Print what makes a client or another resolver ask us.

    What is not given is asked of the running server, else taken from the settings.
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


@main.command()
@_config_option
@click.option("--url", envvar="CONTAINERDNS_URL", metavar="URL", help="Default: as --http says.")
@click.option(
    "--dns", envvar="CONTAINERDNS_DNS", metavar="ADDR:PORT", help="Default: the server's."
)
@_format_option("text", "json")
def healthcheck(config: Path | None, url: str | None, dns: str | None, form: str) -> None:
    """Exit with 0 if a running server is ready and answers a DNS query, else with 1."""
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
    """Make what loads the settings, now and again on SIGHUP."""
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
        click.echo(f"containerdns: {variable}: no option has this name; ignored", err=True)


def _server(url: str) -> "Server":
    from containerdns.commands.http_client import Server

    return Server(_checked(url))


def _checked(url: str) -> str:
    """Refuse what is no URL, before it is asked."""
    from containerdns.config.values import web_url

    try:
        return web_url(url)
    except ValueError:
        named = source_of("url", "--url", "CONTAINERDNS_URL")
        raise BadSettings(named, url, f"http://HOST[:PORT], such as {DEFAULT_URL}") from None


def _follow(server: "Server", show: Callable[[Any], None], path: str = "/queries") -> None:
    """Show what a stream brings as it comes, across restarts of the server, until interrupted."""
    try:
        while True:
            try:
                for query in server.events(path):
                    show(query)
            except ServerUnreachable as fault:
                click.echo(f"containerdns: {fault}; trying again", err=True)
            time.sleep(RECONNECT_AFTER)
    except KeyboardInterrupt:
        return


def _show(lines: Iterable[str]) -> None:
    from containerdns.commands import terminal

    for line in lines:
        terminal.show(line)


def _echo_json(document: Any) -> None:
    click.echo(json.dumps(document, ensure_ascii=False))
