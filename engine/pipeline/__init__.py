"""How an image becomes a map: read, decode, run ahead, run the network, explain, write.

May import: errors, kernels, methods, pictures, protocols, types.
"""
