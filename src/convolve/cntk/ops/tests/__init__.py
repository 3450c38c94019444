"""What programs use of CNTK's test helpers."""
