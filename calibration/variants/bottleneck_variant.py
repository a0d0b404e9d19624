"""One training of a bottleneck's search as a registered variant: plan, weights, tables, metric."""

from __future__ import annotations

from dataclasses import asdict

from calibration.codecs.entropy_tables import fit_symbol_model
from calibration.variants.register import Evaluation, Lineage, register_variant
from exporter.bottleneck.design import REDUCTION
from exporter.bottleneck.plan import (
    SCHEMA,
    TABLES_FILE,
    WEIGHTS_FILE,
    BottleneckFile,
    encode_network,
    read_bottleneck,
    write_bottleneck,
)
from exporter.bottleneck.training import Lesson, new_bottleneck, symbols_of_data
from exporter.bottleneck.trials import Trial
from exporter.project.freshness import FORMAT, MadeFrom, recorded
from exporter.project.settings import Project
from exporter.variants.record import VariantRecord, read_variant_record
from jetson.errors import DamagedFileError, StaleError
from jetson.files.atomic_files import sha256_of_bytes
from jetson.wire.symbol_model import model_to_bytes

# Tables are fitted to so many symbols of training data, and estimates taken on as many: more change little.
FITTED_SYMBOLS = 1 << 21


def register_bottleneck(
    project: Project,
    variant: str,
    parent: str,
    lesson: Lesson,
    trial: Trial,
    made_from: MadeFrom,
    evaluation: Evaluation,
) -> VariantRecord:
    """Write a trial as a variant of `parent` and register it, unless that was done already; raises CoopexportError."""
    folder = project.variant_folder(variant)
    quantised, quantiser = new_bottleneck(lesson, trial.task)
    quantised.graph_module.load_state_dict(dict(trial.weights))
    now = recorded({**made_from, FORMAT: SCHEMA})
    weights = encode_network(quantised.graph_module)
    try:
        stored = read_bottleneck(folder)
        if stored.weights_sha256 == sha256_of_bytes(weights) and stored.made_from == now:
            return read_variant_record(folder)
    except (StaleError, DamagedFileError):
        pass
    design = trial.task.design
    symbols = symbols_of_data(quantised, quantiser, lesson.data, lesson.training, FITTED_SYMBOLS).numpy()
    tables = model_to_bytes(fit_symbol_model(symbols, design.bits, contexts=True))
    place = lesson.place
    file = BottleneckFile(
        parent=parent, layer=place.layer, node=place.node, shape=place.shape, rectified=place.rectified,
        stride=design.stride, channels=design.channels, bits=design.bits, tail=lesson.settings.tail,
        made_from=now, weights=WEIGHTS_FILE,
        weights_sha256=sha256_of_bytes(weights), tables=TABLES_FILE, tables_sha256=sha256_of_bytes(tables),
        estimated_bytes=trial.estimated_bytes,
    )  # fmt: skip
    write_bottleneck(folder, file, weights, tables)
    method = {
        "command": "bottleneck",
        "layer": place.layer,
        **asdict(design),
        "rate_weight": trial.task.rate_weight,
        "tail": lesson.settings.tail,
        "estimated_bytes": trial.estimated_bytes,
        "encoder_parameters": quantised.parameters_in(REDUCTION, *quantised.head),
        "reduction_parameters": quantised.parameters_in(REDUCTION),
    }
    training = {"epochs": trial.task.epochs, "images": trial.images, "seconds": trial.seconds}
    lineage = Lineage(parent, None, "bottleneck", method, (REDUCTION,), training)
    return register_variant(project, variant, lineage, evaluation)
