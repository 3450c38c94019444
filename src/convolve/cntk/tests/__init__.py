"""Names of CNTK's test helpers that programs use."""
