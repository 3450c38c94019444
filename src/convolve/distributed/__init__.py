"""Several processes that train one network: which one this is, how they meet, and what they send each other."""
