"""The command line: parse, call the pipeline, print. Heavy imports happen inside the commands, so `--help` is instant.

Exit codes: 0 ok, 1 internal, 2 usage, 3 bad shot or asset, 4 some frames failed, 5 missing device or model,
6 regression failed, 130 interrupted. Logs go to stderr; with --json one object goes to stdout.
"""

from __future__ import annotations

import click

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


def main() -> None:
    """Entry point: turns every error into one line and its exit code."""
    import os
    import sys

    try:
        _same_tree()
        cli.main(standalone_mode=False)
    except click.exceptions.Abort:
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except KeyboardInterrupt:
        click.echo("\nstopped; finished frames are kept, run the same command again to go on", err=True)
        sys.stderr.flush()
        os._exit(130)  # native threads of the solver and GL must not delay it
    except BrokenPipeError:
        os._exit(0)
    except Exception as error:
        from shot.errors import DemolishError

        if isinstance(error, DemolishError):
            click.echo(f"demolish: {error}", err=True)
            sys.exit(error.exit_code)
        if os.environ.get("DEMOLISH_TRACEBACK") == "1" or "--debug" in sys.argv:
            raise
        click.echo(f"demolish: internal error: {type(error).__name__}: {error} (DEMOLISH_TRACEBACK=1 shows where)", err=True)
        sys.exit(1)


def _same_tree() -> None:
    """Refuse to run with someone else's `render` or `sim` on the path."""
    import importlib.util
    import sys
    from pathlib import Path

    home = Path(__file__).resolve().parent
    for name in ("shot", "pipeline", "sim", "render", "neural", "assets"):
        spec = importlib.util.find_spec(name)
        found = Path(spec.origin).resolve().parent.parent if spec and spec.origin else None
        if found != home:
            click.echo(f"demolish: package {name} would come from {spec.origin if spec else 'nowhere'}, not from {home}", err=True)
            sys.exit(5)


@click.group(context_settings=CONTEXT)
@click.version_option(package_name="demolish")
def cli() -> None:
    """A building and a few parameters in, finished frames of its collapse out.

    \b
    demolish run apartment_block --preview       a rough collapse within a minute
    demolish run apartment_block                 the finished frames
    demolish run my_shot.toml -s sim.gravity=3.7 --frames 1001-1060
    """


def shot_options(command):
    """SHOT and -s, shared by commands that read a shot."""
    setting = click.option("-s", "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a parameter; repeatable.")
    return click.argument("shot")(setting(command))


def _bundled():
    from importlib.resources import files
    from pathlib import Path

    return Path(str(files("assets"))) / "shots"


@cli.command()
@shot_options
@click.option("--frames", metavar="LIST", help="Frames to make, e.g. 1001-1100x2,1120.")
@click.option("--to", "last", metavar="STAGE", default="deliver", show_default=True, help="Last stage to run.")
@click.option("--preview", is_flag=True, help="Quarter of the pixels, coarse pieces and dust, every second frame, no refinement.")
@click.option("--dry-run", is_flag=True, help="Show what would run, with time and disk; make nothing.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
@click.option("-o", "--out", type=click.Path(file_okay=False), help="Folder for films, frames and reports.")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
@click.option("--debug", is_flag=True, help="Show a traceback on internal errors.")
def run(shot, overrides, frames, last, preview, dry_run, as_json, out, quiet, debug) -> None:
    """Make the finished frames of SHOT (a TOML file or a bundled shot)."""
    from pathlib import Path

    from pipeline.command import run_command

    run_command(shot, overrides, _bundled(), frames, last, preview, dry_run, as_json, Path(out) if out else None, quiet)


@cli.command()
@shot_options
@click.option("--wedge", "wedges", multiple=True, required=True, metavar="KEY=A,B,C", help="Values to try; several multiply.")
@click.option("--zip", "zipped", is_flag=True, help="Pair the values of several --wedge instead of multiplying.")
@click.option("--preview", is_flag=True, help="Preview quality.")
@click.option("--frames", metavar="LIST", help="Frames to make.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
@click.option("-o", "--out", type=click.Path(file_okay=False), help="Folder of the wedge.")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
def wedge(shot, overrides, wedges, zipped, preview, frames, as_json, out, quiet) -> None:
    """Run SHOT once per value: labelled takes, one sheet, one table."""
    from pathlib import Path

    from pipeline.wedge import wedge_command

    wedge_command(shot, overrides, _bundled(), wedges, zipped, preview, frames, as_json, Path(out) if out else None, quiet)


@cli.group()
def regress() -> None:
    """Compare tiny shots with their references: state hash, metrics, pictures."""


@regress.command("run")
@click.argument("suite", type=click.Path(exists=True, file_okay=False), default="tests/regression")
@click.option("--report", type=click.Path(file_okay=False), help="Folder of the HTML report.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def regress_run(suite, report, as_json) -> None:
    """Run SUITE and compare; exit code 6 if anything differs."""
    from pathlib import Path

    from pipeline.regress import regress_run as command

    command(Path(suite), Path(report) if report else None, as_json)


@regress.command("update")
@click.argument("suite", type=click.Path(exists=True, file_okay=False), default="tests/regression")
def regress_update(suite) -> None:
    """Run SUITE and take its results as the new reference."""
    from pathlib import Path

    from pipeline.regress import regress_update as command

    command(Path(suite))


@cli.group()
def cache() -> None:
    """The store of finished stages."""


@cache.command("ls")
@click.option("--json", "as_json", is_flag=True, help="One JSON list on stdout.")
def cache_ls(as_json) -> None:
    """List stored results with size and age."""
    from pipeline.command import cache_ls_command

    cache_ls_command(as_json)


@cache.command("prune")
@click.option("--days", type=click.FloatRange(min=0), default=30.0, show_default=True, help="Delete what was not used for so long.")
@click.option("--keep", metavar="SIZE", help="Then delete the oldest until at most SIZE stays, e.g. 20GB.")
def cache_prune(days, keep) -> None:
    """Delete old results; finished takes in runs/ are not touched."""
    from pipeline.command import cache_prune_command

    cache_prune_command(days, keep)


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON list on stdout.")
def doctor(as_json) -> None:
    """Say what this machine has and what to do about what it lacks."""
    from pipeline.command import doctor_command

    doctor_command(as_json)


@cli.command()
def shots() -> None:
    """List the bundled shots."""
    from pipeline.command import shots_command

    shots_command(_bundled())


@cli.command()
@click.argument("key", required=False)
@click.option("--json", "as_json", is_flag=True, help="One JSON list on stdout.")
def params(key, as_json) -> None:
    """Print every parameter, or those under KEY: type, default, unit, range, effect."""
    from pipeline.command import params_command

    params_command(key, as_json)


if __name__ == "__main__":
    main()
