"""The command shrink. It sits here because masks that rounding changes need their accuracy measured again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from coopexport.output import next_step, print_table, project_option, wrote

if TYPE_CHECKING:
    from exporter.project.settings import Project
    from exporter.shrinking.plan import KeptChannels
    from exporter.shrinking.shrink import LayerSize
    from exporter.variants.shrink_project import ProjectShrunk, ShrinkRequest

# The largest error that --approximate allows by itself, relative to the outputs' spread.
_APPROXIMATE_BOUND = 0.05


@click.command()
@project_option
@click.option(
    "--masks", "masks_file", type=click.Path(path_type=Path),
    help="Masks instead of the project's: a mask file, or an NNI or plain dictionary (.pt).",
)  # fmt: skip
@click.option(
    "--masks-from", type=click.Choice(["file", "zero-weights", "batch-norm"]), default="file", show_default=True,
    help="Take what is pruned from the checkpoint itself: filters of zeros, or batch norms whose gamma is zero.",
)  # fmt: skip
@click.option(
    "--gamma-threshold", type=click.FloatRange(min=0), default=0.0,
    help="With --masks-from batch-norm: gammas up to this size count as zero, which changes the network.",
)  # fmt: skip
@click.option("--fold-borders", is_flag=True, help="Take out constants under zero padding, with a bias per position.")
@click.option(
    "--approximate", type=click.FloatRange(min=0, min_open=True), is_flag=False, flag_value=_APPROXIMATE_BOUND,
    help="Take them out with one bias per channel; the value is the largest error allowed "
    f"(of the outputs' spread; {_APPROXIMATE_BOUND} without one).",
)  # fmt: skip
@click.option(
    "--round-to", type=click.Choice(["8", "16", "32"]), help="Fill widths up to multiples of this with zeros."
)
@click.option("--round-to-revive", "revive", is_flag=True, help="Fill up with the most important removed channels.")
@click.option("--verify", is_flag=True, help="Only prove the shrunk networks equal again, from the files.")
@click.option(
    "--variant", "variant_names", multiple=True,
    help="With --verify: which; a name or a pattern; default: all that were pruned.",
)  # fmt: skip
def shrink(
    project_file: Path | None,
    verify: bool,
    variant_names: tuple[str, ...],
    revive: bool,
    round_to: str | None,
    **given: Any,
) -> None:
    """Turn the masked network into a smaller dense one, proven equal."""
    from exporter.project.settings import load_project
    from exporter.shrinking.removal import ShrinkOptions
    from exporter.variants.shrink_project import ShrinkRequest, shrink_project
    from jetson.errors import CoopexportError

    project = load_project(project_file)
    if verify:
        print_verified(project, variant_names)
        return
    if variant_names:
        raise CoopexportError("--variant is for --verify: what is shrunk becomes the variant pruned")
    fold_borders, approximate = given["fold_borders"], given["approximate"]
    if fold_borders and approximate is not None:
        raise CoopexportError("--fold-borders is exact and --approximate is not: give one of them")
    options = ShrinkOptions(fold_borders, approximate, None if round_to is None else int(round_to))
    masks_from, masks_file = given["masks_from"], given["masks_file"]
    if masks_file is not None and masks_from != "file":
        raise CoopexportError(f"--masks FILE and --masks-from {masks_from} name two sources of masks: give one of them")
    request = ShrinkRequest(masks_file, masks_from, given["gamma_threshold"], options, revive)
    result = shrink_project(project, request)
    print_sizes(result.shrunk.sizes, result.shrunk.plan.kept_although_masked)
    if approximate is not None:
        click.echo(f"error by approximation: {result.shrunk.parity[0].error:.2e} of the outputs' spread")
    if options.round_to is not None:
        print_rounding(project, result, request)
    if revive or approximate is not None:
        print_accuracy(project, result)
    wrote(result.path)
    next_step("coopexport layers, or coopexport split --layer NAME")


def print_verified(project: Project, variant_names: tuple[str, ...]) -> None:
    """Prove variants equal again and print every check; raises CoopexportError naming the first that fails."""
    from exporter.variants.choice import chosen_variants, naming
    from exporter.variants.layer_graphs import ORIGINAL
    from exporter.variants.shrink_project import verify_project
    from jetson.errors import CoopexportError

    names = [choice.name for choice in chosen_variants(project, variant_names) if choice.name != ORIGINAL]
    if not names:
        raise CoopexportError("there is no pruned network to verify: run coopexport shrink or coopexport prune first")
    for name in names:
        with naming(name):
            for check in verify_project(project, name):
                error = f"{check.error:.1e} of the outputs' spread, allowed is {check.bound:.0e}"
                click.echo(f"{name}: {check.check}: error {error}")


def print_sizes(sizes: tuple[LayerSize, ...], stays: tuple[KeptChannels, ...]) -> None:
    """Print channels, parameters and MACs of every layer before and after, and why masked channels stay."""
    why = {
        size.name: "; ".join(f"{len(item.channels)} {item.reason}" for item in stays if item.layer == size.name)
        for size in sizes
    }
    rows = [
        (
            size.name,
            f"{size.channels_before} -> {size.channels_after}",
            f"{size.parameters_before:,} -> {size.parameters_after:,}",
            f"{size.macs_before:,} -> {size.macs_after:,}",
            *([why[size.name]] if stays else []),
        )
        for size in sizes
    ]
    before = [sum(size.parameters_before for size in sizes), sum(size.macs_before for size in sizes)]
    after = [sum(size.parameters_after for size in sizes), sum(size.macs_after for size in sizes)]
    totals = [f"{a:,} -> {b:,} ({a / b:.2f}x less)" for a, b in zip(before, after, strict=True)]
    rows.append(("total", "", totals[0], totals[1], *([""] if stays else [])))
    columns = ["layer", "channels", "parameters", "MACs", *(["masked channels that stay"] if stays else [])]
    print_table("Shrunk", columns, rows)


def print_rounding(project: Project, result: ProjectShrunk, request: ShrinkRequest) -> None:
    """Print what rounding costs in MACs and gains in time, per layer, measured in ONNX Runtime on one thread."""
    from dataclasses import replace

    import torch

    from exporter.layers.export import export
    from exporter.layers.layer_times import OTHER, layer_times_ms
    from exporter.shrinking.shrink import layer_sizes, shrink_unproven
    from exporter.variants.layer_graphs import example_inputs

    inputs = example_inputs(project)
    options = replace(request.options, round_to=None)
    exact, _, flow = shrink_unproven(result.before, result.given, torch.from_numpy(inputs), options)
    networks = {"exact": exact.eval(), "rounded": result.shrunk.network}
    models = {name: export(network, torch.from_numpy(inputs)).model for name, network in networks.items()}
    times_ms = layer_times_ms(models, [inputs])
    rows = []
    for size, rounded in zip(layer_sizes(result.before, exact, flow), result.shrunk.sizes, strict=True):
        one, other = (times_ms[name].get(size.name) for name in ("exact", "rounded"))
        rows.append(
            (
                size.name,
                f"{size.channels_after} -> {rounded.channels_after}",
                f"{size.macs_after:,} -> {rounded.macs_after:,}",
                "not told apart" if one is None or other is None else f"{one:.3f} -> {other:.3f}",
            )
        )
    rest = [times_ms[name].get(OTHER, 0.0) for name in ("exact", "rounded")]
    rows.append(("between layers", "", "", f"{rest[0]:.3f} -> {rest[1]:.3f}"))
    total = [sum(times_ms[name].values()) for name in ("exact", "rounded")]
    rows.append(("total", "", "", f"{total[0]:.3f} -> {total[1]:.3f} ({total[0] / total[1]:.2f}x as fast)"))
    title = f"Rounded to multiples of {request.options.round_to} (ms in ONNX Runtime, 1 thread, batch of 1)"
    print_table(title, ["layer", "channels", "MACs", "ms"], rows)


def print_accuracy(project: Project, result: ProjectShrunk) -> None:
    """Print the metric of the network under the masks as they were given, and of the shrunk one."""
    import torch

    from calibration.metrics.metric import load_metric, score
    from exporter.data.datasets import load_dataset, network_inputs
    from exporter.masks.masked_network import masked_network
    from exporter.tracing.trace import run_network

    if project.settings.data.evaluation is None:
        click.echo("note: accuracy is not measured, because the project names no data.evaluation", err=True)
        return
    data = load_dataset(project, "evaluation")
    inputs = torch.from_numpy(network_inputs(project, data))
    metric = load_metric(project)
    scores = []
    for network in (masked_network(result.before, result.given, inputs[:2]).eval(), result.shrunk.network):
        outputs = torch.cat([run_network(network, batch)[0] for batch in torch.split(inputs, 64)])
        scores.append(score(metric, outputs.numpy(), data.labels))
    before, after = (100 * item.value for item in scores)
    click.echo(
        f"{scores[0].name} {before:.2f} under the masks as given, {after:.2f} of the shrunk network "
        f"({scores[0].samples} images)"
    )
