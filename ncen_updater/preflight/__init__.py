"""What is looked at before a change, one small file a check, each finding with its remedy."""
