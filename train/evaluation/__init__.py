"""How good a checkpoint is: the measures, and what they are taken of."""
