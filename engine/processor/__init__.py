"""What this machine's processor can do, and what libraries are told of it.

May import: errors.
"""
