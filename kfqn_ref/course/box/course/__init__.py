"""The part of the course that a notebook imports.

==========  ====================================================================================
``lesson``  what a notebook's own cells call: they learn whether laws hold, and nothing else
==========  ====================================================================================
"""
