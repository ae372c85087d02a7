"""Name the mistake of a function from its answers: the edit of the formula that agrees with it.

==============  ================================================================================
``models``      the functions of the assignments, one operation at a time
``primitives``  operations of the models, and what is taken for each by mistake
``slips``       what is written in place of an operation by mistake
``marker``      turns a model into one function for all its edits
``edits``       the edits of a model, and how each is said
``impostors``   whole formulas that are taken for another one
``words``       expressions in the notation of the book
``inputs``      arguments to try: small integers, then numbers without structure
``compare``     whether two answers are the same
``features``    what arguments have in common
``region``      where and how a function goes wrong, if no edit agrees
``relations``   relations between expected and got
``special``     functions with many right answers
``engine``      the search
==============  ================================================================================
"""

from kfqn_ref.course.diagnosis.engine import Finding, diagnose, missed_refusal

__all__ = ["Finding", "diagnose", "missed_refusal"]
