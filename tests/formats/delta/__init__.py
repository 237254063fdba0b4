"""Delta packs."""
