"""The conventions of the analysis: what is too small to matter."""

CLOSE_RATIO = 1.05
"""Speed or memory of single runs nearer than this is not ranked, and not worth more runs: one run
of each setting does not show how much runs vary."""

MARGIN = 0.5
"""ROUGE points of 100 that do not matter, unless equivalence_margin says otherwise."""

MATTERS_RATIO = 1.01
"""Speed or memory nearer than this is never ranked, however sure the difference."""
