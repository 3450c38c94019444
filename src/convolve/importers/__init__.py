"""Models of other tools: a front end reads each format into one neutral graph, `build` makes a torch module of it."""
