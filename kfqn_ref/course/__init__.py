"""Assignments that grade and teach: ``kfqn course``, over nbgrader.

A submission is a stranger's program. So its cells run in a bubblewrap box without network, home or
secrets, in which the package is a stub; its functions are held to the tests by another process
outside the box; and what it shows is made inert before a person looks at it.

==============  ================================================================================
``lesson``      what a test cell calls: laws for a student's functions, and what a failure teaches
``tasks``       laws that belong to an assignment and to no module of the package
``diagnosis``   the mistake of a function, named from its answers
``box``         all of the package that is inside the box: the stub, and what runs the cells
``contents``    what the box holds besides: Python, and the libraries of an assignment
``sandbox``     the box: its mounts, its limits, and what ended it
``clock``       time of foreign code, told apart from time that the machine was slow
``allowed``     what an assignment allows of the package, and the answers to what the stub asks
``remote``      outside: a student's cells run inside, and functions as stand-ins that ask there
``known``       cases on which the laws hold for the solution, tried on every submission
``regrade``     outside: the test cells of the master notebook, against the stand-ins
``clean``       text, pictures and Markdown of a submission, made inert
``whole``       files of a course that may be broken, and copies of the gradebook
``classroom``   the folders and the gradebook of a course
``release``     from the sources of an assignment to what students get
``variants``    other words of an assignment for each student, and the same laws
``handed_in``   find the file of a student, whatever a platform named it
``reading``     read a notebook leniently: kind, source and mark of each cell
``source``      what the source of a cell defines, and whether two are the same
``marks``       every marked cell once, where it can be graded
``prepare``     a submission read, completed and with its tests back, before anything runs
``desk``        processes that are ready to regrade
``grade``       a class of submissions in one call
``summary``     what a graded notebook says at a glance
``feedback``    the page that a student gets
``review``      a class as a whole: sums, answers alike, points by hand with a reason
``table``       the grades as a table, for a spreadsheet or a learning platform
``demo``        a demonstration course with twelve fictional submissions
``command``     the command line
==============  ================================================================================
"""
