"""Usage errors of commands in one line: the option, the value, what was expected.

click prints four lines, the first of which is the same for every error.
"""

from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any

import click

from containerdns.errors import BadSettings

CLOSE = 0.75  # of 1; a typing error rather than another word


class WrongUsage(click.ClickException):
    """A usage error of click, reworded."""

    exit_code = 2

    def __init__(self, fault: click.UsageError) -> None:
        super().__init__(" ".join(_told(fault).split()))

    def show(self, file: Any = None) -> None:
        """Print the line to standard error."""
        click.echo(f"containerdns: {self.message}", file=file, err=file is None)


class UnknownCommand(click.UsageError):
    """An unknown command was typed."""

    def __init__(self, name: str, ctx: click.Context, known: list[str]) -> None:
        super().__init__(
            f"{name}: expected a command{_perhaps(name, known)}: {', '.join(known)}", ctx
        )


class Word(click.Choice[str]):
    """One of a few words."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the word unchanged if it is one of the choices."""
        words = [str(choice) for choice in self.choices]
        if value not in words:
            expected = f"{', '.join(words[:-1])} or {words[-1]}"
            raise BadSettings(_name_of(param), str(value), expected)
        return str(super().convert(value, param, ctx))


class Port(click.ParamType[int]):
    """A port number to send to."""

    name = "port"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read the number."""
        text = str(value)
        if not (text.isascii() and text.isdigit() and len(text) <= 5 and 0 < int(text) < 65536):
            raise BadSettings(_name_of(param), text, "a port, 1 to 65535")
        return int(text)


def source_of(parameter: str, flag: str, variable: str) -> str:
    """Return the flag or variable that a parameter of the running command came from."""
    source = click.get_current_context().get_parameter_source(parameter)
    return variable if source is click.core.ParameterSource.ENVIRONMENT else flag


def _told(fault: click.UsageError) -> str:
    is_of_one = fault.ctx is not None and fault.ctx.parent is not None
    command = f"containerdns {fault.ctx.info_name}" if fault.ctx and is_of_one else "containerdns"
    match fault:
        case click.exceptions.NoSuchOption():
            known = _flags(fault.ctx)
            return (
                f"{fault.option_name}: expected an option of `{command}`"
                f"{_perhaps(fault.option_name, known)}; `{command} --help` lists them"
            )
        case click.MissingParameter(param=click.Parameter() as missing):
            return f"{_name_of(missing)} is missing: expected {_expected(missing)}"
        case click.exceptions.BadOptionUsage():
            return f"{fault.option_name}: {_of_option(fault)}"
        case UnknownCommand():
            return fault.message
    said = fault.format_message().removesuffix(".")
    return f"{said[:1].lower()}{said[1:]}; `{command} --help` lists the arguments"


def _of_option(fault: click.exceptions.BadOptionUsage) -> str:
    """Describe an option whose value is missing or not allowed."""
    from containerdns.config.settings import OPTIONS  # noqa: PLC0415 - for the others' quick start

    option = next((o for o in OPTIONS if o.flag == fault.option_name), None)
    if "does not take a value" in fault.message:  # the only sign of it in click
        other = f", or --no-{option.key}" if option and option.is_switch else ""
        return f"expected no value{other}"
    return f"expected {option.expected if option else 'a value'}, found no value"


def _perhaps(text: str, known: list[str]) -> str:
    close = get_close_matches(text, known, n=1, cutoff=CLOSE)
    return f", perhaps {close[0]}" if close else ""


def _flags(ctx: click.Context | None) -> list[str]:
    return list(_each_flag(ctx)) if ctx else []


def _each_flag(ctx: click.Context) -> Iterator[str]:
    for parameter in ctx.command.get_params(ctx):
        if isinstance(parameter, click.Option):
            yield from parameter.opts
            yield from parameter.secondary_opts


def _expected(parameter: click.Parameter) -> str:
    if isinstance(parameter.type, Word):
        return f"one of {', '.join(str(choice) for choice in parameter.type.choices)}"
    return "a value"


def _name_of(parameter: click.Parameter | None) -> str:
    """Return the flag of an option, or the name of an argument."""
    if isinstance(parameter, click.Option):
        return max(parameter.opts, key=len)
    return (parameter.name or "").upper() if parameter else ""
