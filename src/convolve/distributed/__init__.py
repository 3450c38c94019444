"""Several processes that train one network: launchers, the process group, synchronized gradients."""
