"""What the pages of the book import: figures, and mutants that a reader can try.

============  ==================================================================================
``figures``   one style for all figures
``break_it``  a mutant, and the law that rejects it
``claims``    sentences with numbers from data, asserted where they are shown
============  ==================================================================================
"""
