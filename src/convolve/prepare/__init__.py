"""Official archives and folders, written in the formats that CNTK's examples read."""
