"""The command shrink: a smaller dense network, or the proof of one again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from coopexport.output import next_step, print_table, project_option, wrote

if TYPE_CHECKING:
    from calibration.variants.shrink_project import ShrinkPart
    from exporter.bundles.bundle import Metric
    from exporter.shrinking.plan import KeptChannels
    from exporter.shrinking.removal import ShrinkOptions
    from exporter.shrinking.shrink import LayerSize
    from exporter.variants.rounding_cost import RoundingCost
    from exporter.variants.variant_parity import VariantParity

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
    from calibration.variants.shrink_project import shrink_project
    from exporter.project.settings import load_project
    from exporter.shrinking.removal import ShrinkOptions
    from exporter.variants.shrunk_variant import ShrinkRequest
    from exporter.variants.variant_parity import ParityRequest, variants_parity
    from jetson.errors import InputError

    project = load_project(project_file)
    if verify:
        variants_parity(project, ParityRequest(variant_names), _print_verified)
        return
    if variant_names:
        raise InputError("--variant is for --verify: what is shrunk becomes the variant pruned")
    options = ShrinkOptions(given["fold_borders"], given["approximate"], None if round_to is None else int(round_to))
    request = ShrinkRequest(given["masks_file"], given["masks_from"], given["gamma_threshold"], options, revive)
    result = shrink_project(project, request, lambda part: _print_part(part, options))
    if result.unmeasured is not None:
        click.echo(f"note: accuracy is not measured, because {result.unmeasured}", err=True)
    wrote(result.network.path)
    next_step("coopexport layers, or coopexport split --layer NAME")


def _print_verified(verified: VariantParity) -> None:
    for check in verified.checks:
        error = f"{check.error:.1e} of the outputs' spread, the limit is {check.bound:.0e}"
        click.echo(f"{verified.variant}: {check.check}: error {error}")


def _print_part(part: ShrinkPart, options: ShrinkOptions) -> None:
    from calibration.variants.shrink_project import ShrunkNetwork
    from exporter.variants.rounding_cost import RoundingCost

    if isinstance(part, ShrunkNetwork):
        _print_sizes(part.sizes, part.plan.kept_although_masked)
        if options.approximate is not None:
            click.echo(f"error by approximation: {part.parity[0].error:.2e} of the outputs' spread")
    elif isinstance(part, RoundingCost):
        _print_rounding(part)
    else:
        _print_accuracy(part)


def _print_sizes(sizes: tuple[LayerSize, ...], stays: tuple[KeptChannels, ...]) -> None:
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


def _print_rounding(cost: RoundingCost) -> None:
    """Print what rounding costs in MACs and gains in time, per layer."""
    rows = []
    for layer in cost.layers:
        told_apart = layer.exact_ms is not None and layer.rounded_ms is not None
        rows.append(
            (
                layer.name,
                f"{layer.channels_exact} -> {layer.channels_rounded}",
                f"{layer.macs_exact:,} -> {layer.macs_rounded:,}",
                f"{layer.exact_ms:.3f} -> {layer.rounded_ms:.3f}" if told_apart else "not told apart",
            )
        )
    rows.append(("between layers", "", "", f"{cost.between_exact_ms:.3f} -> {cost.between_rounded_ms:.3f}"))
    gain = f"({cost.exact_ms / cost.rounded_ms:.2f}x as fast)"
    rows.append(("total", "", "", f"{cost.exact_ms:.3f} -> {cost.rounded_ms:.3f} {gain}"))
    title = f"Rounded to multiples of {cost.round_to} (ms in ONNX Runtime, 1 thread, batch of 1)"
    print_table(title, ["layer", "channels", "MACs", "ms"], rows)


def _print_accuracy(metric: Metric) -> None:
    """Print the metric of the network under the masks as they were given, and of the shrunk one."""
    before, after = 100 * metric.reference, 100 * metric.value
    click.echo(
        f"{metric.name} {before:.2f} under the masks as given, {after:.2f} of the shrunk network "
        f"({metric.samples} images)"
    )
