"""What follows, in words: English and Korean, side by side. Imports `findings`."""
