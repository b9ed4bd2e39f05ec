"""The command line: parse, call, show progress."""

import sys
from ast import literal_eval
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
import xarray as xr
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pymcdust.errors import ConfigurationError, PymcdustError
from pymcdust.terminal import console, made, progress_bar, say, stage_bars, table, working

app = typer.Typer(
    help="The temperature of interstellar dust in three dimensions.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

SkyPath = Annotated[Path, typer.Argument(metavar="SKY", help="a sky (Zarr)")]
FitPath = Annotated[Path, typer.Argument(metavar="FIT", help="a fit (Zarr)")]
ModelName = Annotated[
    str, typer.Option(help="a model of the gallery, or a Python file that defines one")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="replace what is there already")]
SettingOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="a setting of the method, such as draws=500"),
]
Seed = Annotated[int, typer.Option(help="seed of everything random")]


class FigureFormat(StrEnum):
    """Formats that figures can be written in."""

    PNG = "png"
    PDF = "pdf"
    SVG = "svg"


def main() -> None:
    """Run the command line; what is wrong is said in one message, with exit status 2."""
    try:
        app()
    except (PymcdustError, OSError) as error:
        Console(stderr=True).print(f"[bold red]error:[/] {escape(str(error))}", soft_wrap=True)
        sys.exit(2)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="folder for figures and maps")] = Path("demo"),
    seed: Seed = 8,
) -> None:
    """Simulate two clouds behind each other and a small sky, fit both, show truth and estimate."""
    from pymcdust.demo import run_demo

    for title, columns in run_demo(out, seed=seed, say=say).items():
        console.print(table(columns, title))
    made("Figures and maps", out, "look at figures/truth.png first")


@app.command()
def simulate(
    out: Annotated[Path, typer.Option(help="where the sky goes (Zarr)")],
    model: ModelName = "temperature_per_voxel",
    nside: Annotated[int, typer.Option(help="Nside of the pixels")] = 256,
    superpixel_nside: Annotated[int, typer.Option(help="Nside of the superpixels")] = 8,
    center: Annotated[
        tuple[float, float] | None, typer.Option(help="centre of a patch: l and b [deg]")
    ] = None,
    radius: Annotated[float | None, typer.Option(help="radius of the patch [deg]")] = None,
    edge: Annotated[
        list[float] | None, typer.Option(help="distance edges [kpc], once for each; the first is 0")
    ] = None,
    reddening: Annotated[
        Path | None, typer.Option(help="take the reddening, real or not, from this sky instead")
    ] = None,
    noise: Annotated[bool, typer.Option(help="add noise")] = True,
    seed: Seed = 0,
    overwrite: Overwrite = False,
) -> None:
    """Simulate a sky whose temperatures a model's prior draws."""
    from pymcdust import open_sky, save_sky, simulate_sky
    from pymcdust.sky.store import check_free

    check_free(out, overwrite)
    geometry = {"nside": nside, "superpixel_nside": superpixel_nside}
    given = {"center": center, "radius": radius, "distance_edge": edge}
    geometry |= {name: value for name, value in given.items() if value is not None}
    if reddening is not None:
        geometry = {"reddening": open_sky(reddening)}
    with working("simulating"):
        sky = simulate_sky(model, **geometry, noise=noise, seed=seed)
        save_sky(sky, out, overwrite=overwrite)
    made("The sky", out, f"pymcdust fit {out} --out fit.zarr")


@app.command()
def prepare(
    config: Annotated[Path, typer.Argument(metavar="SKY.TOML", help="what to read, see the docs")],
    out: Annotated[Path, typer.Option(help="where the sky goes (Zarr)")],
    overwrite: Overwrite = False,
) -> None:
    """Make a sky from a reddening map and five emission maps. A run that was stopped goes on."""
    from pymcdust import prepare_sky

    sky = prepare_sky(config, out, overwrite=overwrite, progress=say)
    dropped = sky.attrs["superpixels_dropped"] - sky.attrs["superpixels_outside"]
    say(
        f"{sky.attrs['superpixels_kept']} superpixels; left out: {dropped} too poorly covered, "
        f"{sky.attrs['superpixels_outside']} outside the maps"
    )
    made("The sky", out, f"pymcdust fit {out} --out fit.zarr")


@app.command()
def models(
    name: Annotated[str | None, typer.Argument(help="one model of the gallery, or a file")] = None,
    voxels: Annotated[int, typer.Option(help="voxels of a sightline, to count parameters")] = 9,
) -> None:
    """Show the gallery: parameter, tying, prior, unit, and how many are free."""
    from pymcdust.modeling.gallery import available, resolve

    for model in map(resolve, [name] if name else available()):
        shared = " and some over the sky" if model.couples_superpixels else ""
        summary = (type(model).__doc__ or "").strip().splitlines()[0]
        shown = Table(title=f"{model.name}: {summary}", title_justify="left", title_style="bold")
        for column in ("parameter", "tying", "prior", "unit"):
            shown.add_column(column)
        for row in model.describe():
            shown.add_row(*row.values())
        console.print(shown)
        console.print(
            f"{model.n_free(voxels)} free parameters per superpixel of {voxels} voxels{shared}\n"
        )


@app.command()
def fit(
    sky: SkyPath,
    out: Annotated[Path, typer.Option(help="where the fit goes (Zarr)")],
    model: ModelName = "temperature_per_voxel",
    starts: Annotated[int, typer.Option(help="starting points per superpixel")] = 1,
    seed: Seed = 0,
    overwrite: Overwrite = False,
) -> None:
    """Find the MAP of every superpixel, with errors. A fit that was stopped goes on."""
    from pymcdust import fit_map

    with progress_bar("fitting") as advance:
        result = fit_map(
            model, sky, out=out, starts=starts, seed=seed, overwrite=overwrite, progress=advance
        )
    console.print(table(_flag_counts(result)))
    made("The fit", out, f"pymcdust plot {out} {sky} --out figures")


@app.command()
def sample(
    sky: SkyPath,
    out: Annotated[Path, typer.Option(help="where the posterior goes (Zarr)")],
    model: ModelName = "temperature_per_voxel",
    method: Annotated[
        str,
        typer.Option(
            help="laplace (the preview), nuts, auto (the one where it will do, else the other), "
            "ptemcee (the paper's), or smc"
        ),
    ] = "auto",
    superpixel: Annotated[
        list[int] | None, typer.Option(help="NESTED index, once for each; by default all")
    ] = None,
    setting: SettingOption = None,
    seed: Seed = 0,
    overwrite: Overwrite = False,
) -> None:
    """Draw from the posterior of every superpixel. A run that was stopped goes on."""
    from pymcdust import sample

    settings = dict(map(_setting, setting or []))
    with progress_bar("sampling", rhat=True) as advance:
        sample(
            model,
            sky,
            method=method,
            superpixel=superpixel,
            out=out,
            seed=seed,
            overwrite=overwrite,
            progress=advance,
            **settings,
        )
    made("The posterior", out, f"pymcdust report {out} --out report.html")


@app.command()
def compare(
    sky: SkyPath,
    variants: Annotated[
        list[str],
        typer.Argument(
            metavar="VARIANT...", help="two or more: models (names or files) or posteriors (Zarr)"
        ),
    ],
    out: Annotated[Path, typer.Option(help="where the comparison goes (Zarr)")],
    method: Annotated[str, typer.Option(help="how models are sampled: see sample")] = "auto",
    evidence: Annotated[
        str, typer.Option(help="auto, importance, bridge, smc or stepping")
    ] = "auto",
    block: Annotated[
        int | None, typer.Option(help="pixels predicted together, a power of 4; by default a beam")
    ] = None,
    folds: Annotated[int, typer.Option(help="folds of the cross-validation")] = 10,
    setting: SettingOption = None,
    seed: Seed = 0,
    overwrite: Overwrite = False,
) -> None:
    """Tell which variant the sky prefers, by evidence and by prediction. Goes on if stopped."""
    from pymcdust import compare
    from pymcdust.judge.preference import summarise_variants
    from pymcdust.judge.report_comparison import verdict

    with stage_bars() as advance:
        result = compare(
            variants,
            sky,
            method=method,
            evidence=evidence,
            block=block,
            folds=folds,
            out=out,
            seed=seed,
            overwrite=overwrite,
            progress=advance,
            **dict(map(_setting, setting or [])),
        )
    rows = summarise_variants(result)
    columns = {"variant": [row["model"] for row in rows]}
    for name, key in (("ELPD difference", "elpd_difference"), ("ln B", "ln_bayes_factor")):
        pairs = [(row[key], row[f"{key}_error"]) for row in rows]
        columns[name] = [f"{value:,.1f} ± {error:.1f}" for value, error in pairs]
    columns["weight"] = [f"{row['weight']:.2f}" for row in rows]
    columns["superpixels won"] = [f"{row['won']:,}" for row in rows]
    console.print(table(columns, f"Compared with {result['model'].values[0]}"))
    for sentence in verdict(result):
        console.print(escape(sentence), soft_wrap=True)
    made("The comparison", out, f"pymcdust report {out} --out comparison.html")


@app.command()
def sensitivity(
    posterior: Annotated[Path, typer.Argument(metavar="POSTERIOR", help="a posterior (Zarr)")],
    out: Annotated[Path, typer.Option(help="where the result goes (Zarr)")],
    vary: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME.NUMBER=VALUE,...",
            help="other values of a prior's number, such as temperature.mu=14,16,20; once for each",
        ),
    ] = None,
    product: Annotated[
        bool, typer.Option("--product", help="every combination of the values, not one at a time")
    ] = False,
    figures: Annotated[Path | None, typer.Option(help="folder for figures")] = None,
    seed: Seed = 0,
    overwrite: Overwrite = False,
) -> None:
    """Tell how much of a posterior is prior; with --vary, what other priors would have given."""
    from pymcdust import PriorStudy, open_posterior, sensitivity
    from pymcdust.infer.posterior import model_of
    from pymcdust.judge.sensitivity_summary import save_figures, tabulate
    from pymcdust.sky.store import check_free, write_store

    check_free(out, overwrite)
    tree = open_posterior(posterior)
    with progress_bar("weighing priors") as advance:
        if vary:
            study = PriorStudy(model_of(tree), product=product, **_numbers(vary))
            result = study.run(tree, seed=seed, progress=advance)
        else:
            result = sensitivity(tree, progress=advance)
    write_store(result, out, superpixels_per_chunk=256, overwrite=overwrite)
    console.print(table(tabulate(result)))
    if figures is not None:
        say(", ".join(path.name for path in save_figures(result, figures)) + f" in {figures}")
    made("The result", out, "open it with xarray.open_zarr")


@app.command()
def report(
    result: Annotated[
        Path, typer.Argument(metavar="RESULT", help="a posterior or a comparison (Zarr)")
    ],
    out: Annotated[Path, typer.Option(help="where the page goes (HTML)")],
    superpixel: Annotated[
        int | None,
        typer.Option(help="posterior: NESTED index of the one to look at closely, else the worst"),
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(help="comparison: the variant that others are compared with, else the first"),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Write the report, one page: how far draws can be trusted, or which variant is preferred."""
    from pymcdust import report

    with progress_bar("diagnosing") as advance:
        report(
            result,
            out,
            superpixel=superpixel,
            reference=reference,
            overwrite=overwrite,
            progress=advance,
        )
    made("The report", out, "open it in a browser")


@app.command()
def export(
    fit: FitPath,
    sky: SkyPath,
    out: Annotated[Path, typer.Option(help="folder for the FITS files")],
    overwrite: Overwrite = False,
) -> None:
    """Write HEALPix FITS maps: parameters, errors, flags; emission observed and reconstructed."""
    from pymcdust import open_sky
    from pymcdust.products.maps import export_maps
    from pymcdust.sky.store import open_store

    with working("writing maps"):
        paths = export_maps(open_store(fit), open_sky(sky), out, overwrite=overwrite)
    made(f"{len(paths)} maps", out, "each opens with healpy.read_map(..., nest=True)")


@app.command()
def plot(
    fit: FitPath,
    sky: SkyPath,
    out: Annotated[Path, typer.Option(help="folder for the figures")],
    format: Annotated[FigureFormat, typer.Option(help="format of the figures")] = FigureFormat.PNG,
) -> None:
    """Draw reddening, temperature, rho, beta, and how well the emission is reconstructed."""
    from pymcdust import open_sky
    from pymcdust.products.plots import save_plots
    from pymcdust.sky.store import open_store

    with working("drawing"):
        paths = save_plots(open_store(fit), open_sky(sky), out, [str(format)])
    made(f"{len(paths)} figures", out, ", ".join(path.name for path in paths))


@app.command()
def info(
    path: Annotated[Path, typer.Argument(help="a sky, a fit, a posterior or a comparison (Zarr)")],
) -> None:
    """Tell what a sky, a fit, a posterior or a comparison holds, and where it comes from."""
    from pymcdust.judge.comparison import is_comparison
    from pymcdust.sky.store import open_tree

    tree = open_tree(path)
    kind = "posterior" if tree.children else "fit" if "model" in tree.attrs else "sky"
    kind = "comparison" if is_comparison(tree.to_dataset()) else kind
    sizes = (tree["posterior"] if "posterior" in tree.children else tree).sizes
    described = ", ".join(f"{size} {dim}" for dim, size in sizes.items())
    console.print(f"[bold]{path}[/]: a {kind} of {described}", soft_wrap=True)
    for name, value in tree.attrs.items():
        console.print(f"  [cyan]{name}[/] {escape(str(value))}", soft_wrap=True)
    for node in tree.subtree:
        if node.children and not node.data_vars:
            continue
        if tree.children:
            console.print(f"  [bold]{node.name}[/]")
        for name, variable in node.data_vars.items():
            unit = f" [{variable.attrs['unit']}]" if variable.attrs.get("unit") else ""
            console.print(f"  [green]{name}[/] {variable.dims} {escape(unit)}", soft_wrap=True)
    if kind == "fit":
        console.print(table(_flag_counts(tree.to_dataset())))


def _setting(text: str) -> tuple[str, float | str]:
    """Read NAME=VALUE; a value that looks like a number or a truth value is one."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise ConfigurationError(f"--set takes NAME=VALUE, such as draws=500, not {text!r}")
    try:
        return name.strip(), literal_eval(value.strip().capitalize())
    except (ValueError, SyntaxError):
        return name.strip(), value.strip()


def _numbers(vary: Sequence[str]) -> dict[str, dict[str, list[float]]]:
    """Read NAME.NUMBER=VALUE,VALUE: values of a prior's number, by parameter and number."""
    numbers: dict[str, dict[str, list[float]]] = {}
    for text in vary:
        path, _, values = text.partition("=")
        name, _, number = path.strip().rpartition(".")
        try:
            given = [float(value) for value in values.split(",")]
        except ValueError:
            given = []
        if not name or not number or not given:
            raise ConfigurationError(
                f"--vary takes NAME.NUMBER=VALUE,VALUE, such as temperature.mu=14,20, not {text!r}"
            )
        numbers.setdefault(name, {})[number] = given
    return numbers


def _flag_counts(fit: xr.Dataset) -> dict[str, list[str]]:
    """Count the superpixels that converged, and those with each flag."""
    flag = fit["flag"]
    counts = {"all": fit.sizes["superpixel"], "converged": int(fit["converged"].sum())}
    meanings = flag.attrs["flag_meanings"].split()
    for name, mask in zip(meanings, flag.attrs["flag_masks"], strict=True):
        counts[name.replace("_", " ")] = int(((flag & mask) > 0).sum())
    return {"superpixels": list(counts), "number": [f"{n:,}" for n in counts.values()]}
