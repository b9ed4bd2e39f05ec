"""Commands that judge results: how far to trust them, which variant the sky prefers."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from pymcdust.commands.inference import flag_counts
from pymcdust.commands.options import (
    Overwrite,
    Seed,
    SettingOption,
    SkyPath,
    read_numbers,
    read_setting,
)
from pymcdust.terminal import console, made, progress_bar, say, stage_bars, table


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
            **dict(map(read_setting, setting or [])),
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
            study = PriorStudy(model_of(tree), product=product, **read_numbers(vary))
            result = study.run(tree, seed=seed, progress=advance)
        else:
            result = sensitivity(tree, progress=advance)
    write_store(result, out, superpixels_per_chunk=256, overwrite=overwrite)
    console.print(table(tabulate(result)))
    if figures is not None:
        say(", ".join(path.name for path in save_figures(result, figures)) + f" in {figures}")
    made("The result", out, "open it with xarray.open_zarr")


def report(
    result: Annotated[
        Path, typer.Argument(metavar="RESULT", help="a sky, a posterior or a comparison (Zarr)")
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
    """Write the report, one page: whether a sky is good, draws can be trusted, a variant wins."""
    from pymcdust import report

    with progress_bar("looking at superpixels") as advance:
        report(
            result,
            out,
            superpixel=superpixel,
            reference=reference,
            overwrite=overwrite,
            progress=advance,
        )
    made("The report", out, "open it in a browser")


def info(
    path: Annotated[Path, typer.Argument(help="a sky, a fit, a posterior or a comparison (Zarr)")],
) -> None:
    """Tell what a sky, a fit, a posterior or a comparison holds, and where it comes from."""
    from pymcdust.judge.kinds import kind_of
    from pymcdust.sky.store import open_tree

    tree = open_tree(path)
    kind = kind_of(tree)
    sizes = (tree["posterior"] if "posterior" in tree.children else tree).sizes
    described = ", ".join(f"{size} {dim}" for dim, size in sizes.items())
    console.print(f"[bold]{escape(str(path))}[/]: a {kind} of {described}", soft_wrap=True)
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
        console.print(table(flag_counts(tree.to_dataset())))
