"""Networks, their weights and heads, what of them is frozen, and the exported file."""
