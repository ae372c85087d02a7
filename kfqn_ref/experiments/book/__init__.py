"""What the pages of the book import: figures, and mutants that a reader can try.

============  ==================================================================================
``figures``   one style for all figures
``tables``    tables in place of printed columns
``break_it``  a mutant, and the law that rejects it
``sides``     which side of the method helps on digits, stored for the chapter on races
``why``       what H_a and H_g are along a run, against the exact factors
``claims``    sentences with numbers from data, asserted where they are shown
``example``   the running example: a network small enough to be worked by hand
``drawing``   its numbers as a figure: vectors and matrices with their entries
``trace``     from a formula to its function, its laws and their mutants, and back
``rooms``     which room of the package imports which, for the page on architecture
============  ==================================================================================
"""
