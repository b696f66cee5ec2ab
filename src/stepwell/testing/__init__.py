"""What users of Stepwell test with; nothing of the product imports it."""
