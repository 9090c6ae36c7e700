"""Which channels of a network belong together, which of them matter, and how the others are taken out."""
