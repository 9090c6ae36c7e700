"""`npas STAGE [overrides]`: the console command."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from tempfile import TemporaryDirectory

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from rich.markup import escape

from scripts import groups
from scripts.console import errors, show_error
from scripts.errors import UnknownOption, UnknownStage, is_named
from scripts.machine import npas_version
from scripts.overrides import explained, quoted
from scripts.stages import COMMANDS, STAGES
from scripts.tools import TOOLS

_DEBUG = "NPAS_DEBUG"
_SWEEP = "sweep"

_SWEEP_HELP = """npas sweep [group=option,option ...] [key=value,value ...]

The main job for every combination of the values that have commas between them (Hydra's multirun: also seed=range(5)),
each in a folder of its own within run_dir, and a table of the best network of each. What they have in common is made
once. The same command goes on where it was stopped.

Examples
  npas sweep budget=50%,25% seed=0,1,2
  npas sweep search=npas,random 'seed=range(3)' data=cifar10
  npas sweep budget=50%,25% --cfg job    prints the configurations without running them

Groups and settings are those of the main job: npas search --help"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one stage, or the main job; exits with 2 on a named error, 130 on Ctrl-C."""
    # Threads that spin for long while they wait make training slower as soon as anything else runs on the machine, and
    # threads that sleep at once where nothing does. A thousand turns of GNU's runtime are near the better of both.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    groups.register()
    command, *overrides = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    try:
        if command in ("-h", "--help"):
            _help()
        elif command == "--version":
            print(f"npas {npas_version()}")
        elif command in TOOLS:
            _hydra(command, overrides, TOOLS[command].run)
        elif command in COMMANDS:
            _hydra("config", overrides, lambda config: _run_stages(command, config))
        elif command == _SWEEP:
            _run_sweep(overrides)
        else:
            raise UnknownStage(command, (*COMMANDS, _SWEEP, *TOOLS))
    except BrokenPipeError:  # the reader of what is printed has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except KeyboardInterrupt:
        again = shlex.join(["npas", command, *overrides])
        errors.print(f"\nStopped. What is finished is kept; to go on: [bold]{escape(again)}[/bold]", soft_wrap=True)
        sys.exit(130)
    except Exception as error:
        if os.environ.get(_DEBUG) or not is_named(error):
            raise
        show_error(error)
        sys.exit(2)


def _run_stages(command: str, config: DictConfig) -> None:
    from scripts import job  # with torch and all, which --help does not wait for

    job.run_command(command, config, overrides=HydraConfig.get().overrides.task)


def _run_sweep(arguments: Sequence[str]) -> None:
    """Compose a configuration for each combination of values by Hydra's multirun, then run them, or show them."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--help", "-h", action="store_true")
    parser.add_argument("--cfg", "-c", nargs="?", const="")
    parser.add_argument("--resolve", action="store_true")
    options, overrides = parser.parse_known_args(arguments)
    others = [override for override in overrides if override.startswith("-")]
    if options.cfg not in (None, "job"):
        others.append(f"--cfg {options.cfg}".strip())
    if others:
        raise UnknownOption(others, _SWEEP, ("--cfg job [--resolve]", "--help"))
    if options.help:
        print(_SWEEP_HELP)
        return
    composed: list[tuple[list[str], DictConfig]] = []

    def note(config: DictConfig) -> None:
        composed.append((list(HydraConfig.get().overrides.task), config))

    with TemporaryDirectory() as record:  # of Hydra; what was run stands in the config.yaml of each run
        _hydra("config", ["--multirun", f"hydra.sweep.dir={record}", *overrides], note)
    from scripts import sweep

    runs = sweep.make_runs(composed)
    if options.cfg is None:
        sweep.sweep(runs)
    else:
        sweep.show(runs, resolve=options.resolve)


def _hydra(name: str, overrides: Sequence[str], run: Callable[[DictConfig], None]) -> None:
    """Compose the configuration `name` with `overrides`, and run."""
    raised: list[BaseException] = []

    @hydra.main(version_base="1.3", config_path="pkg://conf", config_name=name)
    def task(config: DictConfig) -> None:
        try:
            run(config)
        except Exception as error:
            raised.append(error)

    # Hydra reads the process's arguments, and would print a shortened traceback of an error of ours.
    sys.argv = ["npas", *map(quoted, overrides)]
    with explained(name):
        task()
    if raised:
        raise raised[0]


def _help() -> None:
    width = max(len(stage.name) for stage in STAGES)
    lines = [f"  {stage.name:{width}}  {stage.about}" for stage in STAGES]
    main_job = [
        f"  npas {command} is the main job: all stages, {STAGES[0].name} to {last}"
        for command, last in COMMANDS.items()
        if command != last
    ]
    print(
        "npas searches operator, pruning scheme and pruning rate of every layer together, under a latency\n"
        "budget that is kept by kernels generated for the device and timed on it.\n",
        "Usage: npas STAGE [group=option ...] [key=value ...]\n",
        "Stages, in the order in which they run:",
        *lines,
        "",
        "A command runs the stages before its own too, and skips those that are done:",
        *main_job,
        "  a stopped run goes on with the same command.\n",
        "Several main jobs as one, with a table of their results at the end:",
        f"  npas {_SWEEP} budget=50%,25% seed=0,1\n",
        "Beside the main job:",
        *(f"  {tool.name:{width}}  {tool.about}" for tool in TOOLS.values()),
        "",
        "Start with:     npas search",
        "Configuration:  npas search --help",
        f"Errors:         one panel each; {_DEBUG}=1 shows the traceback",
        sep="\n",
    )


if __name__ == "__main__":
    main()
