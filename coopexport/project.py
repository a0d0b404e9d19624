"""A project from Python: every verb of the command line as a typed method that returns what the verb made.

What a method needs is imported when it is called, so that this module costs nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from exporter.progress import OnProgress, no_progress

if TYPE_CHECKING:
    from benchmarks.demo.pair import PairResult
    from benchmarks.latency.bench_project import BenchRequest, BenchResult
    from benchmarks.latency.devices.bench_device import WrittenBenchOrder
    from benchmarks.latency.tables.project_table import AddResult, DiffResult, ExportResult, ShowResult
    from benchmarks.links.link import Link
    from benchmarks.links.measurement import LinkMeasurement
    from benchmarks.report.list_variants import VariantsResult
    from benchmarks.report.project import ReportResult
    from benchmarks.selection.select_project import SelectResult
    from calibration.building.build_project import BuildProjectResult
    from calibration.building.choose_items import BuildProjectRequest
    from calibration.building.device_builds import DeviceEngines, WrittenBuildRequest
    from calibration.precision.convert_project import ConvertRequest, ConvertResult, SensitivityResult
    from calibration.precision.int8_ranges import RangeMethod
    from calibration.splitting.calibrate_project import CalibrateResult
    from calibration.splitting.search_project import SearchResult
    from calibration.splitting.split_project import SplitResult
    from calibration.variants.bottleneck_project import BottleneckResult
    from calibration.variants.prune_project import PruneResult
    from calibration.variants.shrink_project import ShrinkResult
    from engines.building.pair import Pair
    from engines.device_builds.agent_file import AgentResult
    from engines.device_builds.probe import ProbeResult
    from engines.host.doctor import DoctorResult
    from engines.host.stored_engines import ExplainResult, PruneStoreResult, StoredEngines
    from engines.targets.list_targets import TargetsResult
    from engines.targets.target import Kind
    from exporter.bundles.precision_file import Precision
    from exporter.cutting.split import CutPosition
    from exporter.encoding.specification import ClipMethod, Granularity
    from exporter.project import link_section, settings
    from exporter.project.init import InitResult
    from exporter.project.settings import CriterionName
    from exporter.variants.list_layers import LayersResult
    from exporter.variants.variant_parity import ParityResult

# One name, or several.
Names: TypeAlias = str | Sequence[str]
Role: TypeAlias = Literal["head", "tail", "whole"]


class Project:
    """One project: a `coopexport.toml`, the network and data that it names, and the folder `out/` beside it.

    Each method does what the command of the same name does: the same files, the same refusals. Where an argument is
    None, the project file decides. `variants` are names or patterns ("conv4_1-*"), none for all; `layers` any names
    that `layers()` lists; one name needs no list. `on_progress` is called with what is being done, how many parts of it
    are done, and of how many. Methods raise CoopexportError, whose one line says what is wrong, where, and how to mend
    it.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        """Name a project by its file; without one the nearest `coopexport.toml` above the working directory.

        Raises CoopexportError when there is none, or it is not valid.
        """
        from exporter.project.settings import find_project_file

        self.path: Path = Path(path).absolute() if path is not None else find_project_file(Path.cwd())
        _ = self.file

    def __repr__(self) -> str:
        return f"Project({str(self.path)!r})"

    @property
    def file(self) -> settings.Project:
        """What the project file says now: its `settings`, its `folder`, and `output`, where results go."""
        from exporter.project.settings import load_project

        return load_project(self.path)

    @staticmethod
    def init(
        folder: str | Path = ".",
        *,
        factory: str | None = None,
        checkpoint: str | None = None,
        masks: str | None = None,
        input_shape: Sequence[int] | None = None,
    ) -> InitResult:
        """Write a commented project file into `folder`.

        `factory`: what builds the network, "package.module:function". `checkpoint`, `masks`: files, relative to
        `folder`. `input_shape`: of one input, without the batch.
        """
        from exporter.project.init import InitRequest, init_project

        shape = None if input_shape is None else tuple(input_shape)
        return init_project(InitRequest(Path(folder), factory, checkpoint, masks, shape))

    def prune(
        self,
        layers: Names = (),
        *,
        step: Literal[1, 2] = 2,
        series: str | None = None,
        controls: bool = True,
        replace: bool = False,
        criterion: CriterionName | None = None,
        normalisation: Literal["l2", "rank"] | None = None,
        score_images: int | None = None,
        removed_share: float | None = None,
        epochs: float | None = None,
        final_epochs: float | None = None,
        maximum_loss_points: float | None = None,
        least_left: float | None = None,
        macs_reduction: float | None = None,
        rounds: int | None = None,
        widths: int | None = None,
        step_two_epochs: float | None = None,
        step_two_learning_rate: float | None = None,
        learning_rate: float | None = None,
        device: Literal["auto", "cpu", "cuda"] | None = None,
        seed: int | None = None,
        distillation_weight: float | None = None,
        on_progress: OnProgress = no_progress,
    ) -> PruneResult:
        """Prune the network in two steps (Shi et al. 2019), train what is left, and register every variant.

        `layers`: candidates of step 2. `step`: the last one to take. `series`: put before the variants' names, so that
        several prunings stand side by side. `controls`: train step 1 on as long as step 2, to compare. `replace`:
        delete the variants of another pruning. All others stand for `[prune]` and `[training]` of the project file.
        """
        from calibration.variants.prune_project import PruneRequest, prune_project

        request = PruneRequest(
            _names(layers), step, series, controls, replace, criterion, normalisation, score_images, removed_share,
            epochs, final_epochs, maximum_loss_points, least_left, macs_reduction, rounds, widths, step_two_epochs,
            step_two_learning_rate, learning_rate, device, seed, distillation_weight,
        )  # fmt: skip
        return prune_project(self.file, request, on_progress)

    def shrink(
        self,
        *,
        masks: str | Path | None = None,
        masks_from: Literal["file", "zero-weights", "batch-norm"] = "file",
        gamma_threshold: float = 0.0,
        fold_borders: bool = False,
        approximate: float | None = None,
        round_to: int | None = None,
        revive: bool = False,
    ) -> ShrinkResult:
        """Turn the masked network into a smaller dense one, proven equal: the variant `pruned`.

        `masks`: a file in place of the project's. `masks_from`: what says what is pruned: that file, filters of zeros,
        or batch norms whose gamma is at most `gamma_threshold`. `fold_borders`: take out constants under zero padding
        with a bias per position; `approximate`: with one bias per channel, and this error at most (relative to the
        outputs' spread). `round_to`: fill widths up to multiples of 8, 16 or 32, with zeros or, with `revive`, with the
        most important removed channels.
        """
        from calibration.variants.shrink_project import shrink_project
        from exporter.shrinking.removal import ShrinkOptions
        from exporter.variants.shrunk_variant import ShrinkRequest

        options = ShrinkOptions(fold_borders, approximate, round_to)
        file = None if masks is None else Path(masks)
        return shrink_project(self.file, ShrinkRequest(file, masks_from, gamma_threshold, options, revive))

    def bottleneck(
        self,
        layers: Names = (),
        *,
        all_layers: bool = False,
        variant: str = "original",
        replace: bool = False,
        maximum_loss_points: float | None = None,
        trainings: int | None = None,
        stride: Literal[1, 2, 4] | None = None,
        channels: int | None = None,
        bits: int | None = None,
        rate_weight: float | None = None,
        tail: Literal["fine-tuned", "frozen"] | None = None,
        first_epochs: float | None = None,
        epochs: float | None = None,
        device: Literal["auto", "cpu", "cuda"] | None = None,
        seed: int | None = None,
        on_progress: OnProgress = no_progress,
    ) -> BottleneckResult:
        """Train a small encoder at cuts of a variant, searched for the fewest bytes that keep the metric.

        `layers`: behind which, or `all_layers`; `variant`: the network that gets them. `replace`: delete bottlenecks of
        other settings or data. What is None is as `[bottleneck]` and `[training]` say.
        """
        from calibration.variants.bottleneck_project import BottleneckRequest, bottleneck_project

        request = BottleneckRequest(
            _names(layers), all_layers, variant, replace, maximum_loss_points, trainings, stride, channels, bits,
            rate_weight, tail, first_epochs, epochs, device, seed,
        )  # fmt: skip
        return bottleneck_project(self.file, request, on_progress)

    def verify(self, variants: Names = ()) -> ParityResult:
        """Prove shrunk networks equal again, from the files: `coopexport shrink --verify`; none for all of them."""
        from exporter.variants.variant_parity import ParityRequest, variants_parity

        return variants_parity(self.file, ParityRequest(_names(variants)))

    def variants(
        self,
        *,
        sort: Literal["macs", "bytes", "metric"] | None = None,
        on_progress: OnProgress = no_progress,
    ) -> VariantsResult:
        """Return what each variant costs and is worth, measured again where that no longer holds; draw the figures."""
        from benchmarks.report.list_variants import VariantsRequest, list_variants

        return list_variants(self.file, VariantsRequest(sort), on_progress)

    def layers(self, variants: Names = (), *, maximum_tensors: int | None = None) -> LayersResult:
        """Return every layer, its bytes and MACs, and where the network can be cut.

        `maximum_tensors`: list the cuts where 2 to so many tensors cross, too.
        """
        from exporter.variants.list_layers import LayersRequest, list_layers

        return list_layers(self.file, LayersRequest(_names(variants), maximum_tensors))

    def calibrate(
        self,
        layers: Names = (),
        *,
        variants: Names = (),
        all_layers: bool = False,
        at: CutPosition | None = None,
        maximum_tensors: int | None = None,
        bits: int | None = None,
        clip: ClipMethod | None = None,
        percentile: float | None = None,
        granularity: Granularity | None = None,
        on_progress: OnProgress = no_progress,
    ) -> CalibrateResult:
        """Find the clip ranges at cuts; `split` does it by itself.

        `layers`: to cut after; none, or `all_layers`: the project's candidates. `bits`: of a symbol, 1 to 8.
        `percentile`: in percent.
        """
        from calibration.splitting.calibrate_project import CalibrateRequest, calibrate_project

        request = CalibrateRequest(
            _names(variants), _names(layers), all_layers, at, maximum_tensors, bits, clip, percentile, granularity
        )
        return calibrate_project(self.file, request, on_progress)

    def search(
        self,
        layers: Names = (),
        *,
        variants: Names = (),
        all_layers: bool = False,
        at: CutPosition | None = None,
        maximum_tensors: int | None = None,
        maximum_loss_points: float | None = None,
        on_progress: OnProgress = no_progress,
    ) -> SearchResult:
        """Find the encoding with the fewest bytes at each cut, within `maximum_loss_points` of the metric."""
        from calibration.splitting.search_project import SearchRequest, search_project

        request = SearchRequest(_names(variants), _names(layers), all_layers, at, maximum_tensors, maximum_loss_points)
        return search_project(self.file, request, on_progress)

    def split(
        self,
        layers: Names = (),
        *,
        variants: Names = (),
        all_layers: bool = False,
        recommended: bool = False,
        at: CutPosition | None = None,
        maximum_tensors: int | None = None,
        encoding: Literal["affine", "float16", "float32"] | None = None,
        bits: int | None = None,
        clip: ClipMethod | None = None,
        percentile: float | None = None,
        granularity: Granularity | None = None,
        packing: Literal["none", "bytes", "words"] | None = None,
        codec: Literal["raw", "zlib-huffman", "rans", "rans-context"] | None = None,
        maximum_loss_points: float | None = None,
        standalone: bool | None = None,
        on_progress: OnProgress = no_progress,
    ) -> SplitResult:
        """Cut the network into head and tail, with the feature encoded at the cut, and write a bundle for each cut.

        `layers`: to cut after; or `all_layers`: the project's candidates, or every clean cut. `recommended`: encode as
        `search` found. `at`: after the activation or before it. `maximum_tensors`: how many may cross. `bits`: of a
        symbol, 1 to 8. `clip`, `percentile` (in percent), `granularity`: how the range is chosen. `packing`: put
        symbols into bytes or words in the head. `codec`: what turns symbols into bytes. `maximum_loss_points`: of the
        metric, that a cut may lose. `standalone`: graphs that hold their own weights, below 2 GB each.
        """
        from calibration.splitting.split_project import SplitRequest, split_project

        request = SplitRequest(
            _names(variants), _names(layers), all_layers, recommended, at, maximum_tensors, encoding, bits, clip,
            percentile, granularity, packing, codec, maximum_loss_points, standalone,
        )  # fmt: skip
        return split_project(self.file, request, on_progress)

    def precision(
        self,
        layers: Names = (),
        *,
        variants: Names = (),
        all_layers: bool = False,
        whole: bool = False,
        precisions: Sequence[Precision] = ("fp16", "int8"),
        ranges: RangeMethod = "entropy",
        percentile: float = 99.99,
        maximum_loss_points: float | None = None,
        float32_layers: Names = (),
        mixed: bool = True,
        fallback: Literal["fp32", "fp16"] = "fp32",
        on_progress: OnProgress = no_progress,
    ) -> ConvertResult:
        """Write float16 and int8 forms of what was split, each evaluated image by image against float32.

        `layers`: that were split at; or `all_layers`; `whole`: the network that is not cut. `ranges`: how those of int8
        activations are chosen, with `percentile` for that method. `maximum_loss_points`: 0.1 for fp16 and 1 for int8
        without it. `float32_layers`: stay so in any case; `mixed`: the most sensitive ones may, too; `fallback`: what
        runs those beside int8.
        """
        from calibration.precision.convert_project import convert_project

        request = _convert_request(
            layers, variants, all_layers, whole, precisions, ranges, percentile, maximum_loss_points, float32_layers,
            mixed, fallback,
        )  # fmt: skip
        return convert_project(self.file, request, on_progress)

    def sensitivity(
        self,
        layers: Names = (),
        *,
        variants: Names = (),
        all_layers: bool = False,
        whole: bool = False,
        precisions: Sequence[Precision] = ("fp16", "int8"),
        ranges: RangeMethod = "entropy",
        percentile: float = 99.99,
        fallback: Literal["fp32", "fp16"] = "fp32",
        samples: int | None = None,
        on_progress: OnProgress = no_progress,
    ) -> SensitivityResult:
        """Measure what each layer costs when it alone is converted: `coopexport precision --sensitivity`.

        `samples`: calibration images to measure on, at least 2; None for all. Nothing is written.
        """
        from calibration.precision.convert_project import measure_sensitivity

        request = _convert_request(
            layers, variants, all_layers, whole, precisions, ranges, percentile, fallback=fallback
        )
        return measure_sensitivity(self.file, request, samples, on_progress)

    def targets(self, kind: Kind | None = None) -> TargetsResult:
        """Return what can be built for, the project's own targets first; `kind`: only those."""
        from engines.targets.list_targets import TargetsRequest, list_targets

        return list_targets(self.file, TargetsRequest(kind))

    def build(
        self,
        targets: Names = (),
        *,
        layers: Names = (),
        variants: Names = (),
        roles: Sequence[Role] = (),
        precision: Literal["fp32", "fp16", "int8"] | None = None,
        batches: tuple[int, int, int] | None = None,
        use_store: bool = True,
        on_progress: OnProgress = no_progress,
    ) -> BuildProjectResult:
        """Build engines here, each with an identity file.

        `targets`: such as "rtx-ada"; none for the project's. `layers`: bundles, none for all; `roles` likewise.
        `batches`: min, opt and max samples at a time. `use_store`: take from the store of engines, and put there.
        """
        from calibration.building.build_project import build_project

        request = _build_request(targets, layers, variants, roles, precision, batches, use_store)
        return build_project(self.file, request, on_progress)

    def build_on_device(
        self,
        device: str,
        target: str,
        *,
        layers: Names = (),
        variants: Names = (),
        roles: Sequence[Role] = (),
        precision: Literal["fp32", "fp16", "int8"] | None = None,
        batches: tuple[int, int, int] | None = None,
        use_store: bool = True,
        on_progress: OnProgress = no_progress,
    ) -> DeviceEngines:
        """Build on `device` ("user@host" or "user@host:port"), which is a `target`: `coopexport build --device`."""
        from calibration.building.device_builds import build_over_ssh

        request = _build_request(target, layers, variants, roles, precision, batches, use_store)
        return build_over_ssh(self.file, request, device, on_progress)

    def write_build_request(
        self,
        path: str | Path,
        target: str,
        *,
        layers: Names = (),
        variants: Names = (),
        roles: Sequence[Role] = (),
        precision: Literal["fp32", "fp16", "int8"] | None = None,
        batches: tuple[int, int, int] | None = None,
        on_progress: OnProgress = no_progress,
    ) -> WrittenBuildRequest:
        """Write the .zip file from which a device without ssh builds: `coopexport build --order`."""
        from calibration.building.device_builds import write_build_request

        request = _build_request(target, layers, variants, roles, precision, batches)
        return write_build_request(self.file, request, Path(path), on_progress)

    def install_build_result(
        self,
        path: str | Path,
        target: str,
        *,
        layers: Names = (),
        variants: Names = (),
        roles: Sequence[Role] = (),
        precision: Literal["fp32", "fp16", "int8"] | None = None,
        batches: tuple[int, int, int] | None = None,
        on_progress: OnProgress = no_progress,
    ) -> DeviceEngines:
        """Take the engines out of what a device made of a request, with its arguments: `coopexport build --result`."""
        from calibration.building.device_builds import install_build_result

        request = _build_request(target, layers, variants, roles, precision, batches)
        return install_build_result(self.file, request, Path(path), on_progress)

    def open_pair(self, variant: str, layer: str, *, head_target: str = "cpu", tail_target: str = "cpu") -> Pair:
        """Open the built engines of one cut: `pair.infer(image)` gives the outputs and the bytes that crossed.

        `layer`: the bundle's name. Each engine is checked against its identity and this machine before it is loaded.
        """
        from engines.building.pair import open_pair
        from engines.targets.list_targets import show_target

        project = self.file
        targets = [show_target(project, name) for name in (head_target, tail_target)]
        return open_pair(project.variant_folder(variant), layer, *targets)

    @staticmethod
    def engines() -> StoredEngines:
        """Return what the store of engines holds: `coopexport engines list`."""
        from engines.host.stored_engines import list_engines, own_store

        return list_engines(own_store())

    @staticmethod
    def explain_engine(engine: str | Path) -> ExplainResult:
        """Say whether an engine may be loaded here, and why not: `coopexport engines explain`.

        `engine`: a file with its identity beside it, or the beginning of a stored one's key.
        """
        from engines.host.stored_engines import ExplainRequest, explain_engine

        return explain_engine(ExplainRequest(str(engine)))

    @staticmethod
    def prune_engines(limit_bytes: int | None = None) -> PruneStoreResult:
        """Remove the engines used longest ago until `limit_bytes` are left: `coopexport engines prune`."""
        from engines.host.stored_engines import PruneStoreRequest, own_store, prune_engines

        return prune_engines(own_store(), PruneStoreRequest(limit_bytes))

    def links(self) -> tuple[Link, ...]:
        """Return the links that the project names: their goodput, round trip, and where these come from."""
        from benchmarks.links.project_links import project_links

        return project_links(self.file)

    def bench(
        self,
        layers: Names = (),
        *,
        variants: Names = (),
        target: str = "cpu",
        rounds: int | None = None,
        warm_up: int | None = None,
        precisions: Sequence[settings.Precision] | None = None,
        batches: Sequence[int] | None = None,
        energy: bool | None = None,
        on_progress: OnProgress = no_progress,
    ) -> BenchResult:
        """Measure heads, codecs and tails here, interleaved, and add them to the latency table.

        `target`: what runs here. `rounds`: how often each part is measured, after `warm_up` rounds that are not kept.
        `precisions`: in which the networks are; `batches`: images at once, whose times are the batch's. `energy`: of
        each part, too, where the processor tells it.
        """
        from benchmarks.latency.bench_project import bench_project

        request = _bench_request(variants, layers, target, rounds, warm_up, precisions, batches, energy)
        return bench_project(self.file, request, on_progress)

    def add_latencies(self, files: str | Path | Sequence[str | Path]) -> AddResult:
        """Add runs, other tables, CSV files or archives to the latency table, all or none: `coopexport table add`."""
        from benchmarks.latency.tables.project_table import AddRequest, add_to_table, table_of

        paths = (files,) if isinstance(files, (str, Path)) else files
        return add_to_table(table_of(self.file), AddRequest(tuple(map(Path, paths))))

    def latencies(
        self, *, targets: Names = (), variants: Names = (), layers: Names = (), history: bool = False
    ) -> ShowResult:
        """Return the newest latency of each part, and whether it still counts: `coopexport table show`.

        `targets`, `variants` and `layers`: names or patterns, none for all. `history`: every row, not the newest alone.
        """
        from benchmarks.latency.tables.project_table import ShowRequest, show_table, table_of

        project = self.file
        request = ShowRequest(_names(targets), _names(variants), _names(layers), history)
        return show_table(table_of(project), request, project)

    def diff_latencies(self, before: str | Path, after: str | Path) -> DiffResult:
        """Say what got slower or faster between two tables, runs or sittings: `coopexport table diff`.

        Each a file of a table or of runs, or the beginning of a run's id in the project's table.
        """
        from benchmarks.latency.tables.project_table import diff_tables, table_of

        return diff_tables(str(before), str(after), table_of(self.file))

    def export_latencies(self, path: str | Path) -> ExportResult:
        """Write every row of the latency table to a CSV file: `coopexport table export`."""
        from benchmarks.latency.tables.project_table import export_table, table_of

        return export_table(table_of(self.file), Path(path))

    def bench_on_device(
        self,
        device: str,
        target: str,
        *,
        layers: Names = (),
        variants: Names = (),
        rounds: int | None = None,
        warm_up: int | None = None,
        precisions: Sequence[settings.Precision] | None = None,
        batches: Sequence[int] | None = None,
        energy: bool | None = None,
        on_progress: OnProgress = no_progress,
    ) -> BenchResult:
        """Measure on `device` ("user@host" or "user@host:port"), which is a `target`: `coopexport bench --device`.

        What is missing there is built first. Rows that failed are in the run with their reasons. `energy`: None
        measures it where the board shows its power.
        """
        from benchmarks.latency.devices.bench_device import bench_over_ssh

        request = _bench_request(variants, layers, target, rounds, warm_up, precisions, batches, energy)
        return bench_over_ssh(self.file, request, device, on_progress)

    def write_bench_order(
        self,
        path: str | Path,
        target: str,
        *,
        layers: Names = (),
        variants: Names = (),
        rounds: int | None = None,
        warm_up: int | None = None,
        precisions: Sequence[settings.Precision] | None = None,
        batches: Sequence[int] | None = None,
        energy: bool | None = None,
        on_progress: OnProgress = no_progress,
    ) -> WrittenBenchOrder:
        """Write the .zip file by which a device without ssh builds and measures: `coopexport bench --order`."""
        from benchmarks.latency.devices.bench_device import write_bench_order

        request = _bench_request(variants, layers, target, rounds, warm_up, precisions, batches, energy)
        return write_bench_order(self.file, request, Path(path), on_progress)

    def import_bench_run(self, path: str | Path) -> BenchResult:
        """Put the run that a device made of an order into the latency table: `coopexport bench --result`."""
        from benchmarks.latency.devices.bench_device import import_bench_run

        return import_bench_run(self.file, Path(path))

    def select(
        self,
        *,
        target: str = "cpu",
        device_slowdown: float | None = None,
        maximum_loss_points: float | None = None,
        goodput_bps: Mapping[str, float] | None = None,
        device_target: str | None = None,
        round_trip_ms: float | None = None,
        maximum_latency_ms: float | None = None,
        goodput_samples_bps: Sequence[float] | None = None,
        latency_percentile: float | None = None,
        maximum_device_memory_bytes: float | None = None,
        maximum_device_mj: float | None = None,
        batch: int | None = None,
        precisions: Sequence[settings.Precision] | None = None,
        upload: bool | None = None,
        cuts: Mapping[str, Sequence[str]] | None = None,
        device_loads: Mapping[str, float] | None = None,
        edge_loads: Mapping[str, float] | None = None,
        hysteresis_percent: float | None = None,
        protocol: link_section.Protocol | None = None,
    ) -> SelectResult:
        """Choose network, cut and coding for each link, and write the plan.

        `target`: whose latencies stand for the edge; `device_target`: whose are the device's; `device_slowdown`: how
        many times slower the device is taken to be, where it was not measured. `maximum_loss_points`: against the
        unpruned network. `goodput_bps`: bits per second by name of the link. `maximum_latency_ms`: choose the most
        accurate within it, and not the fastest. `cuts`: layers by variants, both as patterns. `device_loads`,
        `edge_loads`: factors on the times of a machine by the name of a load. `protocol`: whose bytes cross beside the
        payload. All are keys of `[select]`.
        """
        from benchmarks.selection.select_project import SelectRequest, select_project

        request = SelectRequest(
            target, device_slowdown, maximum_loss_points, goodput_bps, device_target, round_trip_ms, maximum_latency_ms,
            goodput_samples_bps, latency_percentile, maximum_device_memory_bytes, maximum_device_mj, batch, precisions,
            upload, cuts, device_loads, edge_loads, hysteresis_percent, protocol,
        )  # fmt: skip
        return select_project(self.file, request)

    def report(self, *, target: str = "cpu") -> ReportResult:
        """Select as the project file says, and write `report.html` with its figures."""
        from benchmarks.report.project import ReportRequest, report_project

        return report_project(self.file, ReportRequest(target))

    @staticmethod
    def agent(output: str | Path = "coop-agent.pyz") -> AgentResult:
        """Write the one file that a Jetson runs."""
        from engines.device_builds.agent_file import AgentRequest, write_agent

        return write_agent(AgentRequest(Path(output)))

    @staticmethod
    def probe(device: str) -> ProbeResult:
        """Find out over ssh what a device is; `device`: "user@host" or "user@host:port"."""
        from engines.device_builds.probe import ProbeRequest, probe_over_ssh

        return probe_over_ssh(ProbeRequest(device))

    @staticmethod
    def probe_link(
        device: str,
        *,
        seconds: float = 10.0,
        message_bytes: int = 64,
        messages: int = 100,
        on_progress: OnProgress = no_progress,
    ) -> LinkMeasurement:
        """Measure over ssh how fast the link to a device is: bulk in both directions, small messages there and back.

        `seconds`: at most, for the messages and for each direction. `write_measurement` of benchmarks.links.measurement
        writes what comes back.
        """
        from benchmarks.links.measure import LinkProbeRequest, probe_link

        return probe_link(LinkProbeRequest(device, seconds, message_bytes, messages), on_progress)

    @staticmethod
    def doctor(folder: str | Path = ".") -> DoctorResult:
        """Return what is usable here, and why the rest is not; `folder`: where names may hide ours."""
        from engines.host.doctor import DoctorRequest, examine

        return examine(DoctorRequest(Path(folder)))

    @staticmethod
    def demo(folder: str | Path = "demo") -> PairResult:
        """Run all of it on a network that is trained here; it types the commands, and prints what they print."""
        from coopexport.demo.flow import run_demo

        return run_demo(Path(folder))


def _names(given: Names) -> tuple[str, ...]:
    """Return one name or several as a tuple: a string is one name, not its letters."""
    return (given,) if isinstance(given, str) else tuple(given)


def _convert_request(
    layers: Names,
    variants: Names,
    all_layers: bool,
    whole: bool,
    precisions: Sequence[Precision],
    ranges: RangeMethod,
    percentile: float,
    maximum_loss_points: float | None = None,
    float32_layers: Names = (),
    mixed: bool = True,
    fallback: Literal["fp32", "fp16"] = "fp32",
) -> ConvertRequest:
    from calibration.precision.convert_project import ConvertRequest
    from calibration.precision.int8_ranges import RangeSettings

    return ConvertRequest(
        _names(variants), _names(layers), all_layers, whole, tuple(precisions), RangeSettings(ranges, percentile),
        maximum_loss_points, _names(float32_layers), mixed, fallback,
    )  # fmt: skip


def _build_request(
    targets: Names,
    layers: Names,
    variants: Names,
    roles: Sequence[Role],
    precision: Literal["fp32", "fp16", "int8"] | None,
    batches: tuple[int, int, int] | None,
    use_store: bool = True,
) -> BuildProjectRequest:
    from calibration.building.choose_items import BuildProjectRequest

    return BuildProjectRequest(
        _names(variants), _names(layers), _names(targets), tuple(roles), precision, batches, use_store
    )


def _bench_request(
    variants: Names,
    layers: Names,
    target: str,
    rounds: int | None,
    warm_up: int | None,
    precisions: Sequence[settings.Precision] | None,
    batches: Sequence[int] | None,
    energy: bool | None,
) -> BenchRequest:
    from benchmarks.latency.bench_project import BenchRequest

    return BenchRequest(
        _names(variants), _names(layers), target, rounds, warm_up, None if precisions is None else tuple(precisions),
        None if batches is None else tuple(batches), energy,
    )  # fmt: skip
