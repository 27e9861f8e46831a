"""`fedcall benchmark`: our speed against a named peer, measured in the same run."""

import typer

benchmark = typer.Typer(help="Measure our speed against a named peer, both in one run.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the benchmarks."""
    app.add_typer(benchmark, name="benchmark")


@benchmark.callback()
def _group() -> None:
    pass
