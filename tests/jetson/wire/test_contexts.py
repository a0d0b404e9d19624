"""What the neighbours of a symbol say, and which frequencies it is coded with."""

import numpy as np
from symbol_examples import random_model

from jetson.wire.contexts import contexts_of, cumulative_frequencies, predictions_and_activities
from jetson.wire.symbol_model import FREQUENCY_TOTAL, model_of_channels, symbol_model


def test_cumulative_frequencies_go_from_0_to_the_total():
    model = symbol_model(1, [0, 0], [[5, 32763]])
    np.testing.assert_array_equal(cumulative_frequencies(model), [[0, 5, 32768]])


def test_contexts_are_prediction_and_activity_of_the_neighbours():
    symbols = np.array([[[0, 1, 2], [3, 0, 1]], [[1, 1, 1], [0, 3, 0]]], np.uint8)
    predictions, activities = predictions_and_activities(symbols)
    # First rows: left alone. Then the median of left, up and left + up - up_left.
    np.testing.assert_array_equal(predictions, [[[0, 0, 1], [0, 3, 1]], [[0, 1, 1], [1, 0, 3]]])
    # |left - up_left| + |up - up_left| + |up - up_right|
    np.testing.assert_array_equal(activities, [[[0, 0, 1], [1, 5, 4]], [[0, 1, 1], [1, 1, 3]]])
    activity_classes = np.minimum(np.arange(256), 5)
    model = symbol_model(2, [0, 1, 2, 2], np.full((18, 4), FREQUENCY_TOTAL // 4), activity_classes)
    wanted = model.tables[0].classes[predictions].astype(int) * 6 + np.minimum(activities, 5)
    np.testing.assert_array_equal(contexts_of(symbols, model), wanted)


def test_each_channel_has_the_contexts_of_its_own_table():
    """Of two samples of three channels; the tables' contexts follow each other."""
    generator = np.random.default_rng(0)
    models = [random_model(generator, 2, count) for count in (1, 3, 2)]
    model = model_of_channels(models, [2, 0, 1])
    symbols = generator.integers(0, 4, (6, 5, 4), dtype=np.uint8)
    found = contexts_of(symbols, model)
    first = np.cumsum([0] + [one.context_count for one in models])
    for plane, table in enumerate([2, 0, 1, 2, 0, 1]):
        alone = contexts_of(symbols[plane : plane + 1], models[table])
        np.testing.assert_array_equal(found[plane : plane + 1], first[table] + alone)
    rows = np.concatenate([cumulative_frequencies(one) for one in models])
    np.testing.assert_array_equal(cumulative_frequencies(model), rows)


def test_activities_end_at_255():
    symbols = np.zeros((1, 2, 3), np.uint8)
    symbols[0, 0] = 0, 255, 0
    assert predictions_and_activities(symbols)[1][0, 1, 1] == 255, "not 510"
