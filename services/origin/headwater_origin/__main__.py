"""`headwater-origin`: the command line of the origin."""

# ruff: noqa: E402, I001
from headwater_bus.interrupts import end_quietly

end_quietly()

from gevent import monkey

monkey.patch_all()

import click

from headwater_bus.options import CommandGroup, node_config, node_options, operator_errors

from headwater_origin.config import OriginConfig
from headwater_origin.loading import LoadError, load_applications
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
def serve(specs: tuple[str, ...], capacity: float, group_linger_s: float, **options: object) -> None:
    """Serve applications until SIGTERM or SIGINT."""
    node = node_config("origin", options, capacity)
    with operator_errors(LoadError):
        applications = load_applications(specs)
        status = run(node, OriginConfig(group_linger_s=group_linger_s), applications)
    raise SystemExit(status)


if __name__ == "__main__":
    main()
