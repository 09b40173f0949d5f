"""The artifacts: Markdown, HTML, figures, the JSON recommendation, the adopted preset.

Imports `words`, `findings`, `reading`.
"""
