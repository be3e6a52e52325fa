"""`headwater-origin`: the command line of the origin."""

# ruff: noqa: E402, I001
from headwater_bus.interrupts import end_quietly

end_quietly()

from gevent import monkey

monkey.patch_all()

import json

import click

from headwater_bus.options import CommandGroup, console, node_config, node_options, operator_errors
from headwater_store import StoreError, sqlite_url

from headwater_origin.develop.check import check as check_application, warn_of_problems
from headwater_origin.config import OriginConfig
from headwater_origin.develop.loading import (
    LoadError,
    load_applications,
    look_here_first,
    parse_spec,
    parse_specs,
)
from headwater_origin.develop.report import report_tables
from headwater_origin.service import run


@click.group(cls=CommandGroup)
@click.version_option(package_name="headwater-origin")
def main() -> None:
    """The Headwater origin: runs applications for the clients of all edges."""


@main.command()
@node_options
@click.option(
    "--app",
    "specs",
    multiple=True,
    required=True,
    metavar="NAME=MODULE:CLASS",
    help="Serve an application; may be given more than once.",
)
@click.option(
    "--capacity",
    type=click.FloatRange(0, min_open=True),
    default=1.0,
    show_default=True,
    help="Share of the groups that this origin takes, relative to the others'.",
)
@click.option(
    "--group-linger-s",
    type=click.FloatRange(0),
    default=OriginConfig().group_linger_s,
    show_default=True,
    help="Seconds that an application instance is kept without a client.",
)
@click.option(
    "--store-patience-s",
    type=click.FloatRange(0),
    default=OriginConfig().store_patience_s,
    show_default=True,
    help="Seconds that changes wait for a store that is away; after that new ones are refused.",
)
@click.option(
    "--resume-grace-s",
    type=click.FloatRange(0),
    default=OriginConfig().resume_grace_s,
    show_default=True,
    help="Seconds that a client counts as connected while no edge has it.",
)
@click.option(
    "--publisher-grace-s",
    type=click.FloatRange(0),
    default=OriginConfig().publisher_grace_s,
    show_default=True,
    help="Seconds that the name of a stream is kept for a publisher whose connection broke; its players stay.",
)
@click.option(
    "--store",
    envvar="HEADWATER_STORE",
    show_envvar=True,
    metavar="URL",
    help="Where journals are kept, the same for all origins: sqlite:FOLDER[?durability=power], redis://HOST[:PORT], "
    "redis+sentinel://..., or none: nothing outlives this process [default: sqlite: and --data].",
)
@click.option(
    "--reload",
    "reloads",
    is_flag=True,
    help="For development: take applications anew when their files change; clients and state stay.",
)
def serve(
    specs: tuple[str, ...],
    capacity: float,
    group_linger_s: float,
    store_patience_s: float,
    resume_grace_s: float,
    publisher_grace_s: float,
    store: str | None,
    reloads: bool,
    **options: object,
) -> None:
    """Serve applications until SIGTERM or SIGINT."""
    node = node_config("origin", options, capacity)
    config = OriginConfig(
        group_linger_s=group_linger_s,
        store_patience_s=store_patience_s,
        resume_grace_s=resume_grace_s,
        publisher_grace_s=publisher_grace_s,
    )
    with operator_errors(LoadError, StoreError):
        applications = load_applications(specs)
        warn_of_problems(applications)
        watched = parse_specs(specs) if reloads else None
        status = run(node, config, applications, store or sqlite_url(node.data), watched)
    raise SystemExit(status)


@main.command()
@click.argument("spec", metavar="[NAME=]MODULE:CLASS")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def check(spec: str, as_json: bool) -> None:
    """Import an application and say what it offers, and what in it cannot work.

    Exit status 2 when it has a problem; each is one line on standard error.
    """
    with operator_errors(LoadError):
        found = parse_spec(spec)
        look_here_first()
        report = check_application(found.load(), f"{found.module}:{found.class_name}")
    if as_json:
        click.echo(json.dumps(report.as_dict()))
    else:
        console().print(report_tables(report))
        for problem in report.problems:
            click.echo(problem, err=True)
    if report.problems:
        raise SystemExit(2)


if __name__ == "__main__":
    main()
