"""From the bytes of an image file to what the network sees of it.

May import: kernels, types.
"""
