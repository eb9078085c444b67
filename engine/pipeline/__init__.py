"""How an image becomes a map: decode, run ahead, run the network, explain, write.

May import: errors, kernels, methods, protocols, types.
"""
