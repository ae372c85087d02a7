"""All of ``kfqn_ref`` that the box holds; there, this folder *is* the package.

==========  ====================================================================================
``wire``    messages: JSON with arrays of numbers (the grader uses this file as well)
``line``    the box's end of the line: it asks, and answers what it is asked meanwhile
``tools``   names that the assignment allows ask the grader; every other name is refused
``course``  what a notebook's own cells call; the laws themselves are outside
``cells``   run cells as Jupyter runs them, and keep what they show
``worker``  run a student's cells, keep the state at each test, answer calls
==========  ====================================================================================
"""

from .tools import lookup as __getattr__  # noqa: F401  # PEP 562: the names of the package
