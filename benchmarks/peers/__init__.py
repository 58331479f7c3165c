"""The ways to train the same models, one module each: ours, and what people use today.

Each has `prepare(task)`, which makes ready what is no part of training (data sets, loaders) and returns a function that
trains the task's members and gives their modules back. `process` runs them, each in a process of its own.
"""
