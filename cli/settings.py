"""Where settings come from: the command line, then FVC_* variables, then a TOML file, then the default.

A setting is named as its option without the dashes: `--time-limit` is `time-limit` in a file and FVC_TIME_LIMIT in the
environment. In a file, keys at the top are for every command that has the option; a table of a command's name
([partition]) is for that command alone. Unknown names in a file are refused: a typo must not be silent.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from device_db.errors import FvcError

_NOT_SETTINGS = {"config", "help", "version"}


@dataclass(frozen=True, slots=True)
class Setting:
    """One option of one command as it stands in force."""

    command: str
    name: str
    value: Any
    source: str  # "default", "FVC_SEED", "fvc.toml"


def load_settings(context: typer.Context, value: Path | None) -> Path | None:
    """The eager callback of --config: gives the command its defaults from the file and the environment."""
    if context.resilient_parsing:
        return value
    names = command_options(context.command)
    command = context.command_path.split(" ", 1)[-1]
    content, source = read_file(value)
    refuse_unknown(content, source, context.find_root().command)
    defaults = {p: v for p, (v, _) in chosen(command, names, content, source).items()}
    context.default_map = {**(context.default_map or {}), **defaults}
    return value


def command_options(command: Any) -> dict[str, Any]:
    """Setting name -> the option's object, for one command."""
    options: dict[str, Any] = {}
    for option in command.params:
        flags = [o for o in option.opts if o.startswith("--")]
        if option.param_type_name == "option" and flags and flags[0][2:] not in _NOT_SETTINGS:
            options[flags[0][2:]] = option
    return options


def all_commands(command: Any, prefix: str = "") -> dict[str, Any]:
    """Every command below a group by its words: "partition", "devices show"."""
    found: dict[str, Any] = {}
    for name, child in command.commands.items():
        if hasattr(child, "commands"):
            found |= all_commands(child, f"{prefix}{name} ")
        else:
            found[prefix + name] = child
    return found


def read_file(path: Path | None) -> tuple[dict[str, Any], str]:
    """The settings of the file in force and how it is called; {} and "" where there is none."""
    import tomllib

    if path is None and os.environ.get("FVC_CONFIG"):
        path = Path(os.environ["FVC_CONFIG"])
    if path is None:
        path = next((p for p in (Path("fvc.toml"), Path("pyproject.toml")) if p.is_file()), None)
        if path is None:
            return {}, ""
    try:
        content = tomllib.loads(path.read_text("utf-8"))
    except OSError as problem:
        raise FvcError("FVC002", f"cannot read the settings file: {problem.strerror}", where=(str(path),)) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as problem:
        if path.name == "pyproject.toml":  # somebody else's file: whether it is sound is not for us to say
            return {}, ""
        raise FvcError("FVC004", f"the settings file is not TOML: {problem}", where=(str(path),)) from None
    if path.name == "pyproject.toml":
        tool = content.get("tool", {})
        content = tool.get("fvc", {}) if isinstance(tool, dict) else {}
    return content, path.name


def refuse_unknown(content: dict[str, Any], source: str, root: Any) -> None:
    """Raises FVC004 for a name in the file that no command has."""
    commands = all_commands(root)
    every = {name for command in commands.values() for name in command_options(command)}
    for key, value in content.items():
        if isinstance(value, dict):
            if key not in commands:
                raise _unknown(key, source, sorted(commands), "a command")
            known = command_options(commands[key])
            for name in value:
                if _dashed(name) not in known:
                    raise _unknown(f"{key}.{name}", source, sorted(known), f"an option of {key}")
        elif _dashed(key) not in every:
            raise _unknown(key, source, sorted(every), "a setting")


def _unknown(key: str, source: str, known: list[str], what: str) -> FvcError:
    import difflib

    near = difflib.get_close_matches(_dashed(key.split(".")[-1]), known, n=1)
    levers = (f"did you mean {near[0]}?",) if near else ()
    return FvcError(
        "FVC004", f"'{key}' is not {what}", where=(source,), help=(*levers, "fvc config show lists what there is")
    )


def _dashed(name: str) -> str:
    return name.replace("_", "-")


def chosen(command: str, options: dict[str, Any], content: dict[str, Any], source: str) -> dict[str, tuple[Any, str]]:
    """Parameter name -> (value, where from) for what file and environment say to one command."""
    flat = {_dashed(k): v for k, v in content.items() if not isinstance(v, dict)}
    own = content.get(command, {})
    flat |= {_dashed(k): v for k, v in own.items()} if isinstance(own, dict) else {}
    found: dict[str, tuple[Any, str]] = {}
    for name, option in options.items():
        variable = "FVC_" + name.upper().replace("-", "_")
        if os.environ.get(variable):
            raw = os.environ[variable]
            found[option.name] = (raw.split() if option.multiple else raw, variable)
        elif name in flat:
            found[option.name] = (_plain(flat[name], option, name, source), source)
    return found


def _plain(value: Any, option: Any, name: str, source: str) -> Any:
    """A TOML value as the option's parser wants it; a list only where the option may be given several times."""
    scalar = (str, int, float, bool)
    if option.multiple and isinstance(value, list) and all(isinstance(v, scalar) for v in value):
        return [str(v) for v in value]
    if isinstance(value, scalar):
        text = value if isinstance(value, bool) else str(value)
        return [text] if option.multiple else text
    raise FvcError("FVC004", f"'{name}' has a value of the wrong type: {value!r}", where=(source,))


def in_force(root: Any, path: Path | None) -> list[Setting]:
    """Every setting of every command with its value and where that comes from."""
    content, source = read_file(path)
    refuse_unknown(content, source, root)
    rows = []
    for command, spec in all_commands(root).items():
        options = command_options(spec)
        said = chosen(command, options, content, source)
        for name, option in options.items():
            default = getattr(option.default, "value", option.default)
            value, where = said.get(option.name, (default, "default"))
            rows.append(Setting(command, name, value, where))
    return rows
