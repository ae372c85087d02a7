"""Runs on real data, one folder a command: each ``command`` module is what ``kfqn`` calls.

=================  ================================================================================
``sets``           what a data set is
``idx``            one IDX file
``idx_folder``     the IDX files of a set, as they lie in a folder
``tables``         ``.npz`` files, and scikit-learn's bundled tables
``data``           a data set by its name: digits, IDX files such as Fashion-MNIST, tables
``models``         networks, for the reference and for torch
``plots``          figures of a run
``versions``       what was run with what
``verify``         train reference and torch side by side, and compare
``train``          train one network, with checkpoints
``first_look``     KF-QN-CNN beside tuned SGD and Adam
``converge``       the convergence theorem beside runs
``bench``          the time of a step
``race``           all optimizers, tuned by one rule
``scale``          a step on many GPUs, modelled
``architectures``  other people's models: what is covered, and ten steps
``trainer_times``  a step in other people's loops
``book``           what the pages of the book import
=================  ================================================================================
"""
