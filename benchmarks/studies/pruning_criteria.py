"""Criteria for pruning, compared at equal MACs and equal training: `python -m benchmarks.studies.pruning_criteria`.

Trains a quarter-width VGG-16 once per seed, prunes it to several times fewer MACs by every criterion and several
amounts of training, and measures each on the held-out images. Takes about half an hour. Without `--output` the page is
printed.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from benchmarks.demo.data import DemoData, make_data
from benchmarks.demo.prepare import Recipe
from benchmarks.latency.host import describe_host
from benchmarks.studies.codecs_page.network import PREPROCESSING
from benchmarks.studies.markdown import filled, table
from benchmarks.studies.page_command import deliver, page_parser, say
from calibration.metrics.metric import top1
from exporter.models.vgg import vgg16
from exporter.project.settings import PruneSection, TrainingSection
from exporter.pruning.channel_groups import channel_groups
from exporter.pruning.criteria import CRITERIA
from exporter.pruning.dense_network import State, state_of, without_groups
from exporter.pruning.ranking import least_filters, ranked
from exporter.pruning.session import PruningSession, score_groups
from exporter.pruning.step_one import prune_whole
from exporter.tracing.trace import run_network
from exporter.training.fit import fit
from exporter.training.losses import cross_entropy
from exporter.training.training_set import TrainingSet, training_set_of_arrays

MACS_REDUCTION = 6.0
ROUNDS = 8  # with the same factor in each, so that every criterion is trained as much
BASELINE = "random"
# Their authors prune the same share of every layer: across layers these scores say little.
BY_RANK = ("l1-norm", "geometric-median")
AGAINST_CHANCE = """The difference of means against `random`, in points and in standard deviations (the root of the mean
of both variances). **Bold**: more than two deviations above chance."""
TRAINING_MATTERS = """What a criterion knows of the trained filters counts as long as they are not trained anew. With
enough training, what is left of a network this wide for its task learns as well whichever filters it began with."""
# MACs at which networks that were never trained on are looked at.
UNTRAINED_REDUCTIONS = (1.25, 1.5, 2.0)
_UNTRAINED_STEPS = 48  # removals, of all filters, that an untrained network's curve has


@dataclass(frozen=True)
class Budget:
    """How much training: epochs after each round of step 1, and at its end."""

    epochs: float
    final_epochs: float


RECIPE = Recipe(
    widths=(16, 16, 32, 32, 64, 64, 64, 128, 128, 128, 128, 128, 128), strides=(), image_pixels=32, batch_images=32
)
BUDGETS = (Budget(0.02, 0.02), Budget(0.05, 0.1), Budget(0.15, 1.0))
TRAINING = TrainingSection(
    optimizer="adamw", learning_rate=0.002, weight_decay=0.05, schedule="one-cycle", shift_pixels=2, threads=1
)


@dataclass(frozen=True)
class NetworkUnderTest:
    """One trained network and its data, made from one seed; `accuracy` on the held-out images, unpruned."""

    seed: int
    state: State
    data: DemoData
    training: TrainingSet
    accuracy: float


@dataclass(frozen=True)
class Result:
    """Accuracy on the held-out images of one network pruned by one criterion.

    `trained`: by budget, at `MACS_REDUCTION`, with the images that it was trained on; `untrained`: by reduction.
    """

    criterion: str
    seed: int
    trained: tuple[tuple[float, int], ...]
    untrained: tuple[float, ...]


def network_under_test(seed: int, recipe: Recipe) -> NetworkUnderTest:
    """Train the network of `recipe` from `seed`."""
    data = make_data(recipe.train_count, recipe.evaluation_count, seed, recipe.image_pixels)
    training = training_set_of_arrays("demo", data.train_images, data.train_labels, PREPROCESSING)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = vgg16(recipe.widths, strides=recipe.strides)
    fit(network, training, TRAINING, epochs=recipe.epochs, seed=seed)
    return NetworkUnderTest(seed, state_of(network), data, training, accuracy(network, data))


def accuracy(network: nn.Module, data: DemoData) -> float:
    """Return the share of held-out images that the network gets right, in eval mode."""
    held_out = training_set_of_arrays("held out", data.evaluation_images, data.evaluation_labels, PREPROCESSING)
    every = np.arange(len(held_out))
    inputs = torch.from_numpy(held_out.inputs(every))
    outputs = torch.cat([run_network(network.eval(), batch)[0] for batch in torch.split(inputs, 250)])
    return float(top1(outputs.numpy(), held_out.labels(every)).mean())


def measure(
    one: NetworkUnderTest, criterion: str, recipe: Recipe, budgets: Sequence[Budget], score_images: int
) -> Result:
    """Prune one trained network by one criterion: with each amount of training, and with none."""
    trained = []
    for budget in budgets:
        with tempfile.TemporaryDirectory() as folder:
            session = _session(one, criterion, recipe, budget, score_images, Path(folder))
            left = prune_whole(session, lambda found: None).trained
        trained.append((accuracy(left.dense.network, one.data), left.spent.images))
        say(f"seed {one.seed}, {criterion}, {left.spent.images:,} images: {100 * trained[-1][0]:.2f} %")
    with tempfile.TemporaryDirectory() as folder:
        session = _session(one, criterion, recipe, budgets[0], score_images, Path(folder))
        return Result(criterion, one.seed, tuple(trained), _untrained(session, one.data))


def _untrained(session: PruningSession, data: DemoData) -> tuple[float, ...]:
    """Return the accuracy at each of `UNTRAINED_REDUCTIONS`, scoring anew after every removal, without training."""
    dense, full = without_groups(session.groups, session.base, np.zeros(session.groups.count, dtype=np.bool_), "")
    whole = dense.macs()
    found: list[float] = []
    step = -(-int(session.groups.filters().sum()) // _UNTRAINED_STEPS)
    while len(found) < len(UNTRAINED_REDUCTIONS):
        order = ranked(dense, score_groups(session, dense, session.training.seed + len(found)))
        dense, full = without_groups(session.groups, full, least_filters(dense, order, step), "")
        while len(found) < len(UNTRAINED_REDUCTIONS) and whole / dense.macs() >= UNTRAINED_REDUCTIONS[len(found)]:
            found.append(accuracy(dense.network, data))
    return tuple(found)


def _session(
    one: NetworkUnderTest, criterion: str, recipe: Recipe, budget: Budget, score_images: int, folder: Path
) -> PruningSession:
    network = vgg16(recipe.widths, strides=recipe.strides).eval()
    network.load_state_dict(one.state)
    settings = PruneSection.model_validate(
        {
            "criterion": criterion,
            "score_images": score_images,
            "normalisation": "rank" if criterion in BY_RANK else "l2",
            "epochs": budget.epochs,
            "final_epochs": budget.final_epochs,
            "macs_reduction": MACS_REDUCTION,
            "rounds": ROUNDS,
            "maximum_loss_points": 100,
            "least_left": 0.01,
        }
    )
    return PruningSession(
        groups=channel_groups(network, torch.from_numpy(one.training.inputs(np.arange(2)))),
        base=state_of(network),
        data=one.training,
        evaluate=lambda pruned: 0.0,  # it stops by MACs alone
        loss=cross_entropy,
        training=TRAINING.model_copy(update={"seed": one.seed}),
        settings=settings,
        teacher=None,
        made_from={"criterion": criterion},
        folder=folder,
        project_folder=folder,
    )


def page(networks: Sequence[NetworkUnderTest], results: Sequence[Result], budgets: Sequence[Budget]) -> str:
    """Return the page: the accuracies, and how far above chance each criterion is."""
    criteria = list(dict.fromkeys(result.criterion for result in results))
    images = [statistics.mean(result.trained[index][1] for result in results) for index in range(len(budgets))]
    columns = [f"{count:,.0f} images" for count in images] + [f"none, {ratio:g}x" for ratio in UNTRAINED_REDUCTIONS]
    accuracies = [
        (name, *(_mean_and_deviation(_values(results, name, column)) for column in range(len(columns))))
        for name in criteria
    ]
    gains = [
        (name, *(_gain(results, name, column) for column in range(len(columns))))
        for name in criteria
        if name != BASELINE
    ]
    blocks = (
        "# Criteria for pruning, side by side",
        filled(_introduction(networks)),
        table(("criterion", *columns), accuracies),
        "## Against chance",
        filled(AGAINST_CHANCE),
        table(("criterion", *columns), gains, words=columns),
        filled(TRAINING_MATTERS),
    )
    return "\n\n".join(blocks) + "\n"


def _introduction(networks: Sequence[NetworkUnderTest]) -> str:
    unpruned = ", ".join(f"{100 * one.accuracy:.2f}" for one in networks)
    return (
        f"A quarter-width VGG-16 for 32x32 images, made as the demo's are, trained from {len(networks)} seeds to "
        f"{unpruned} % of {len(networks[0].data.evaluation_labels)} held-out images, pruned by step 1 to "
        f"{MACS_REDUCTION:g} times fewer MACs in {ROUNDS} rounds by each criterion. Columns: with how many training "
        "images in all it was fine-tuned, the same for every criterion; and, without any training, the accuracy when "
        f"MACs have become fewer by the factor. {' and '.join(BY_RANK)} take the same share of every layer, as their "
        "authors do. Mean and standard deviation over the seeds, of networks and orders alike, in percent of top-1. "
        "Written by `python -m benchmarks.studies.pruning_criteria --output docs/pruning_criteria.md` "
        f"({describe_host()['processor']})."
    )


def _mean_and_deviation(values: Sequence[float]) -> str:
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{100 * statistics.mean(values):.2f} ± {100 * deviation:.2f}"


def _gain(results: Sequence[Result], criterion: str, column: int) -> str:
    own, chance = (_values(results, name, column) for name in (criterion, BASELINE))
    gain = statistics.mean(own) - statistics.mean(chance)
    variance = (statistics.variance(own) + statistics.variance(chance)) / 2 if len(own) > 1 else 0.0
    if variance == 0:
        return f"{100 * gain:+.2f} points"
    deviations = gain / variance**0.5
    mark = "**" if deviations > 2 else ""
    return f"{mark}{100 * gain:+.2f} points, {deviations:+.1f} deviations{mark}"


def _values(results: Sequence[Result], criterion: str, column: int) -> list[float]:
    """Return by seed the accuracies of a column: with training by budget, then without by reduction."""
    own = [result for result in results if result.criterion == criterion]
    return [[*(value for value, _ in result.trained), *result.untrained][column] for result in own]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns the exit code."""
    parser = page_parser(__doc__, "docs/pruning_criteria.md")
    parser.add_argument("--seeds", type=int, default=3, help="how many networks are trained")
    parser.add_argument("--criteria", nargs="+", choices=list(CRITERIA), default=list(CRITERIA))
    parser.add_argument("--score-images", type=int, default=2000, help="training images that a score is taken on")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)

    def make_page() -> str:
        recipe = RECIPE
        networks = [network_under_test(seed, recipe) for seed in range(options.seeds)]
        results = [
            measure(one, criterion, recipe, BUDGETS, options.score_images)
            for one in networks
            for criterion in options.criteria
        ]
        return page(networks, results, BUDGETS)

    return deliver(make_page, options.output)


if __name__ == "__main__":
    sys.exit(main())
