"""State of all sites from their receipts: intake, regions, and a static web site (the board)."""
