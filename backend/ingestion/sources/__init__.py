"""Where files come from: one module a kind of origin, and `parse` which tells them apart."""
