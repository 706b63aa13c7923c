"""Training: data, augmentation, click simulation, losses and the resumable loop.

Nothing here is imported by the widget. The way in is `dynamite_widget.training.cli` (``dynamite
train``) or, from Python, `dynamite_widget.training.loop.train`.
"""
