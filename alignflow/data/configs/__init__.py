"""The recipe's schema: one frozen config per stage, each field with default, bound, unit and description."""
