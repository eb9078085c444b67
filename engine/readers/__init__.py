"""Where images come from, one file for each kind of source.

May import: errors, io, protocols, types.
"""
