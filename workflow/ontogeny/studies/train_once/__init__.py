"""Train Once, Answer All: many pretraining experiments in one run, and whether they disturb it or each other."""
