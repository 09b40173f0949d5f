"""What several test modules share. Test modules import nothing from one another."""

from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
"""The checkout."""
