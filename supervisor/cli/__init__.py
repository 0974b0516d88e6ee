"""The command line: `supervisorctl`, also installed as `trainctl`."""
