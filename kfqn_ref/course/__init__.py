"""Assignments that grade and teach: ``kfqn course release|grade|feedback|export``, over nbgrader.

A submission is a stranger's program. So it runs in a bubblewrap box without network, home or
secrets, and its score needs two yeses: from the notebook's own test cells, run in the box, and from
the same cells run again by a fresh process outside it. Only numbers come out of the box to that
process, and no test goes in.

==============  ================================================================================
``lesson``      what a test cell calls: laws for a student's functions, and what a failure teaches
``tasks``       laws that belong to an assignment and to no module of the package
``sandbox``     the box: what it holds, its limits, and what ended it
``execute``     inside the box: run a notebook from stdin to stdout
``worker``      inside the box: hold a student's functions and answer calls
``cells``       inside the box: run cells as Jupyter runs them
``remote``      outside: a student's functions as stand-ins that ask the worker
``regrade``     outside: run the test cells of the master notebook against the stand-ins
``classroom``   the folders and the gradebook of a course
``release``     from the sources of an assignment to what students get
``handed_in``   find the file of a student, whatever a platform named it
``reading``     read a notebook leniently: kind, source and mark of each cell
``source``      what the source of a cell defines, and whether two are the same
``marks``       every marked cell once, where it can be graded
``prepare``     a submission read, completed and with its tests back, before anything runs
``grade``       a class of submissions in one call
``feedback``    the page that a student gets, and the table that a teacher gets
``summary``     what a graded notebook says at a glance
``clock``       the time that foreign code used of the processor
``command``     the command line
==============  ================================================================================
"""
