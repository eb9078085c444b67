"""How an image becomes a map: decode, run ahead, run the network, explain, write."""
