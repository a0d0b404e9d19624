"""Times of heads, tails and whole networks that were not measured, predicted from those that were."""
