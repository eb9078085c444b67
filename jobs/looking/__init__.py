"""Pictures to look at: digits, filters, activations, and what they are drawn with."""
