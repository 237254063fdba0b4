"""The fleet as its receipts tell it: intake, regions, and a board of static pages."""
