"""The page on which a person labels pairs, served to this machine alone."""
