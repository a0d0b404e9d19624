"""The edge server: tails of a plan, a bounded queue before them, and the protocols that devices speak with it."""
